//! Text of the option `--pair` → functions with their signatures. Looks at no object.
//!
//! The grammar: `ALLOCATE/FREE` or `ALLOCATE/FREE/REALLOCATE`, each `[OBJECT:]NAME(ARGUMENTS)`.
//! Arguments are numbered from 0. `SIZE` is the number of the argument with the bytes, `SIZE*COUNT`
//! the product of two, either with an `i` behind it when it is a C `int`.
//!
//! - ALLOCATE: `()` or `(SIZE)`, and `>N` for a block whose address is written through argument N
//!   by a function that returns 0 on success: `(>1)`, `(,>1)`, `(0,>1)`.
//! - FREE: `(POINTER)`.
//! - REALLOCATE: `(POINTER)` or `(POINTER,SIZE)`.
//!
//! Without a size, pieces are counted instead of bytes.

use std::path::Path;
use std::str::FromStr;

use leaktrace_common::call::Width;

use super::catalog::interned;
use super::signature::{Amount, CallSignature};

/// Arguments in registers; a size further up would be on the stack.
const REGISTER_ARGUMENTS: u8 = 6;

/// Functions that the user wants to be followed together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// As the user wrote it.
    pub text: String,
    /// The one that allocates, the one that frees, and the one that reallocates if there is one.
    pub functions: Vec<PairFunction>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PairFunction {
    /// Path or name of the object that defines it; absent for any.
    pub object: Option<String>,
    /// Name of the symbol.
    pub name: &'static str,
    /// What it does.
    pub signature: CallSignature,
}

impl Pair {
    /// Whether bytes are counted; else pieces are.
    pub fn has_sizes(&self) -> bool {
        self.functions.iter().any(|function| {
            matches!(
                function.signature,
                CallSignature::Allocate { amount: Some(_) }
                    | CallSignature::AllocateInto {
                        amount: Some(_),
                        ..
                    }
            )
        })
    }
}

impl PairFunction {
    /// Whether the object at this path is one that the user means.
    pub fn is_in(&self, path: &Path) -> bool {
        let Some(wanted) = &self.object else {
            return true;
        };
        let file = path.file_name().and_then(|name| name.to_str());
        let file = file.unwrap_or_default();
        path == Path::new(wanted)
            || file
                .strip_prefix(wanted.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '-']))
    }
}

impl FromStr for Pair {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut rest = text.trim();
        let mut parts = Vec::new();
        while !rest.is_empty() {
            let (part, behind) = rest
                .split_once(')')
                .ok_or_else(|| format!("`{rest}` has no closing parenthesis"))?;
            parts.push(part);
            rest = match behind.strip_prefix('/') {
                Some(next) if !next.is_empty() => next,
                None if behind.is_empty() => behind,
                _ => return Err(format!("`{behind}` is where `/` and a function belong")),
            };
        }
        let functions = match parts.as_slice() {
            [allocate, free] => vec![allocating(allocate)?, freeing(free)?],
            [allocate, free, reallocate] => vec![
                allocating(allocate)?,
                freeing(free)?,
                reallocating(reallocate)?,
            ],
            _ => {
                return Err(
                    "write a function that allocates and one that frees, such as \
                     sqlite3_malloc(0i)/sqlite3_free(0)"
                        .to_owned(),
                );
            }
        };
        Ok(Self {
            text: text.trim().to_owned(),
            functions,
        })
    }
}

fn allocating(part: &str) -> Result<PairFunction, String> {
    let (object, name, arguments) = head(part)?;
    let mut amount = None;
    let mut pointer = None;
    for (position, argument) in arguments.iter().enumerate() {
        match argument.strip_prefix('>') {
            Some(through) if pointer.is_none() => pointer = Some(number(through)?),
            None if position == 0 && argument.is_empty() => {}
            None if position == 0 => amount = Some(self::amount(argument)?),
            _ => return Err(format!("`{name}` has too many arguments")),
        }
    }
    let signature = match pointer {
        Some(pointer) => CallSignature::AllocateInto { pointer, amount },
        None => CallSignature::Allocate { amount },
    };
    Ok(function(object, name, signature))
}

fn freeing(part: &str) -> Result<PairFunction, String> {
    let (object, name, arguments) = head(part)?;
    let [pointer] = arguments.as_slice() else {
        return Err(format!(
            "`{name}` frees what one of its arguments points to: write its number, such as {name}(0)"
        ));
    };
    let pointer = number(pointer)?;
    Ok(function(object, name, CallSignature::Free { pointer }))
}

fn reallocating(part: &str) -> Result<PairFunction, String> {
    let (object, name, arguments) = head(part)?;
    let (pointer, amount) = match arguments.as_slice() {
        [pointer] => (number(pointer)?, None),
        [pointer, size] => (number(pointer)?, Some(amount(size)?)),
        _ => {
            return Err(format!(
                "`{name}` reallocates: write the numbers of pointer and size, such as {name}(0,1)"
            ));
        }
    };
    let signature = CallSignature::Reallocate { pointer, amount };
    Ok(function(object, name, signature))
}

fn function(object: Option<&str>, name: &str, signature: CallSignature) -> PairFunction {
    PairFunction {
        object: object.map(str::to_owned),
        name: interned(name.to_owned()),
        signature,
    }
}

/// `[OBJECT:]NAME(ARGUMENTS`, the parenthesis behind it taken off.
fn head(part: &str) -> Result<(Option<&str>, &str, Vec<&str>), String> {
    let (head, arguments) = part
        .split_once('(')
        .ok_or_else(|| format!("`{part}` has no opening parenthesis"))?;
    let (object, name) = match head.trim().rsplit_once(':') {
        Some((object, name)) => (Some(object), name),
        None => (None, head.trim()),
    };
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '$' | '.');
    let no_object = object.is_some_and(|object| object.is_empty() || object.ends_with(':'));
    if name.is_empty() || !name.chars().all(is_name) || no_object {
        return Err(format!(
            "`{head}` is no name of a function; a C++ function goes by its mangled name"
        ));
    }
    let arguments = match arguments.trim() {
        "" => Vec::new(),
        arguments => arguments.split(',').map(str::trim).collect(),
    };
    Ok((object, name, arguments))
}

fn amount(text: &str) -> Result<Amount, String> {
    let (size, count) = match text.split_once('*') {
        Some((size, count)) => (size, Some(count)),
        None => (text, None),
    };
    let is_int = |text: &str| text.ends_with('i');
    let half = is_int(size) || count.is_some_and(is_int);
    let plain = |text: &str| number(text.strip_suffix('i').unwrap_or(text));
    Ok(Amount {
        size: plain(size)?,
        count: count.map(plain).transpose()?,
        width: if half { Width::Half } else { Width::Whole },
    })
}

fn number(text: &str) -> Result<u8, String> {
    text.parse()
        .ok()
        .filter(|number| *number < REGISTER_ARGUMENTS)
        .ok_or_else(|| format!("`{text}` is no number of an argument (0 to 5)"))
}

#[cfg(test)]
#[path = "pairs_tests.rs"]
mod tests;
