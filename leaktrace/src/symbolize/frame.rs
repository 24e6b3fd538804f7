//! A named frame, as reports carry it.

use serde::{Serialize, Serializer};

/// One frame of a stack. An inlined function is a frame of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Frame {
    /// Demangled name; absent when the object has none for this address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
    /// Path of the object, as the process sees it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub module: Option<String>,
    /// Return address in the process; of code that a signal has interrupted, where that was.
    #[serde(serialize_with = "hex")]
    pub address: u64,
    /// Bytes behind the start of the function; without a function, the svma in the module.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "hex_option")]
    pub offset: Option<u64>,
    /// Source file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Line in the source file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// Whether the compiler inlined this function into the next frame's.
    pub inlined: bool,
    /// Whether the address is that of an instruction rather than one that a call returns to.
    #[serde(skip)]
    pub is_exact: bool,
}

impl Frame {
    /// The address that names are asked for: a return address may already belong to the next
    /// function or the next line, and the call ends at the byte before it.
    pub(super) fn asked_address(&self) -> u64 {
        self.address - self.behind()
    }

    /// How far the address is behind the one that is asked for.
    pub(super) fn behind(&self) -> u64 {
        u64::from(!self.is_exact && self.address > 0)
    }

    /// What it is called: the function's name; without one, `module+0xoffset`; without a module, the
    /// address. Sanitises nothing.
    pub fn label(&self) -> String {
        match (&self.function, &self.module, self.offset) {
            (Some(function), _, _) if !function.is_empty() => function.clone(),
            (_, Some(module), Some(offset)) => format!("{}+{offset:#x}", base_name(module)),
            (_, Some(module), None) => format!("{} {:#x}", base_name(module), self.address),
            (_, None, _) => format!("{:#x}", self.address),
        }
    }
}

/// The last component of a path; all of it where there is none.
pub fn base_name(path: &str) -> &str {
    match path.trim_end_matches('/').rsplit('/').next() {
        Some(last) if !last.is_empty() => last,
        _ => path,
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn hex<S: Serializer>(value: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{value:#x}"))
}

#[expect(clippy::ref_option, reason = "serde's signature")]
fn hex_option<S: Serializer>(value: &Option<u64>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => hex(value, serializer),
        None => serializer.serialize_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stripped_code_reads_as_module_and_offset() {
        let mut frame = Frame {
            module: Some("/usr/lib/libfoo.so.1".to_owned()),
            address: 0x7f00_1234,
            offset: Some(0x1234),
            ..Frame::default()
        };
        assert_eq!(frame.label(), "libfoo.so.1+0x1234");
        frame.module = None;
        assert_eq!(frame.label(), "0x7f001234");
        frame.function = Some("f".to_owned());
        assert_eq!(frame.label(), "f");
        assert_eq!(base_name("[vdso]"), "[vdso]");
        assert_eq!(base_name("/"), "/");
    }
}
