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
    /// Return address in the process.
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
