//! Linker names → the names in the source. Only names that are mangled are touched: a C function
//! may well be called `f` or `St`, which would read as a type if it were taken for a mangled one.

use cpp_demangle::{DemangleOptions, Symbol};

/// The readable form of a C++ or Rust symbol, without Rust's hash; any other name as it is.
pub(super) fn demangle(name: &str) -> String {
    if let Ok(rust) = rustc_demangle::try_demangle(name) {
        return format!("{rust:#}");
    }
    if !(name.starts_with("_Z") || name.starts_with("__Z")) {
        return name.to_owned();
    }
    Symbol::new(name)
        .ok()
        .and_then(|symbol| {
            symbol
                .demangle_with_options(&DemangleOptions::default())
                .ok()
        })
        .unwrap_or_else(|| name.to_owned())
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
}
