//! Linker names → the names in the source. Only names that are mangled are touched: a C function
//! may well be called `f` or `St`, which would read as a type if it were taken for a mangled one.

use std::fmt::{self, Write};

use cpp_demangle::{DemangleOptions, Symbol};

/// Names that are longer are cut. A mangled name can stand for one that is longer by any factor:
/// its parts may be named again, each time doubled.
const MAX_NAME_BYTES: usize = 16 << 10;

/// Stands at the end of a name that was cut.
const CUT: char = '…';

/// The readable form of a C++ or Rust symbol, without Rust's hash; any other name as it is, and so
/// one whose readable form would be too long. What is too long even so is cut, and ends in `…`.
pub(super) fn demangle(name: &str) -> String {
    readable(name).unwrap_or_else(|| cut(name))
}

/// `None` for a name that is not mangled, or too long.
fn readable(name: &str) -> Option<String> {
    let mut out = Bounded(String::new());
    if let Ok(rust) = rustc_demangle::try_demangle(name) {
        write!(out, "{rust:#}").ok()?;
    } else if name.starts_with("_Z") || name.starts_with("__Z") {
        let symbol = Symbol::new(name).ok()?;
        symbol
            .structured_demangle(&mut out, &DemangleOptions::default())
            .ok()?;
    } else {
        return None;
    }
    Some(out.0)
}

fn cut(name: &str) -> String {
    match name.len() > MAX_NAME_BYTES {
        true => {
            let end = name.floor_char_boundary(MAX_NAME_BYTES - CUT.len_utf8());
            format!("{}{CUT}", &name[..end])
        }
        false => name.to_owned(),
    }
}

/// Takes no more than [`MAX_NAME_BYTES`]; what writes into it then ends at once.
struct Bounded(String);

impl Write for Bounded {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        if self.0.len() + piece.len() > MAX_NAME_BYTES {
            return Err(fmt::Error);
        }
        self.0.push_str(piece);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mangled_names_become_readable() {
        assert_eq!(
            demangle("_ZN4shop4CartI5AppleE3addEi"),
            "shop::Cart<Apple>::add(int)"
        );
        assert_eq!(
            demangle("_ZN5depot5store17h0123456789abcdefE"),
            "depot::store"
        );
    }

    #[test]
    fn names_of_c_functions_stay_what_they_are() {
        for name in [
            "a", "b", "f", "i", "v", "x", "Pc", "St", "Sa", "Ss", "main", "_Zebra", "",
        ] {
            assert_eq!(demangle(name), name);
        }
    }

    #[test]
    fn a_short_name_that_stands_for_gigabytes_stays_as_it_is() {
        let digits = "0123456789A".chars();
        let doubled: String = digits
            .map(|digit| format!("S_I{}E", format!("S{digit}_").repeat(8)))
            .collect();
        let name = format!("_Z1f1AIiiE{doubled}");
        assert!(name.len() < 500, "{}", name.len());
        assert_eq!(demangle(&name), name);
    }

    #[test]
    fn a_name_that_is_too_long_is_cut_with_a_mark() {
        let long = "ä".repeat(MAX_NAME_BYTES);
        let cut = demangle(&long);
        assert!(cut.len() <= MAX_NAME_BYTES && cut.ends_with("ä…"));
        assert_eq!(demangle(&long[..MAX_NAME_BYTES]), long[..MAX_NAME_BYTES]);
    }
}
