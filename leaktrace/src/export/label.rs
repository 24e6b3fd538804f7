//! A frame → what it is called, in every format the same. Sanitises nothing.

use crate::report::Frame;

/// The function's name; without one, `module+0xoffset`; without a module, the address.
pub(super) fn name(frame: &Frame) -> String {
    match (&frame.function, &frame.module, frame.offset) {
        (Some(function), _, _) if !function.is_empty() => function.clone(),
        (_, Some(module), Some(offset)) => format!("{}+{offset:#x}", base_name(module)),
        (_, Some(module), None) => format!("{} {:#x}", base_name(module), frame.address),
        (_, None, _) => format!("{:#x}", frame.address),
    }
}

/// The last component of a path; all of it where there is none.
pub(super) fn base_name(path: &str) -> &str {
    match path.trim_end_matches('/').rsplit('/').next() {
        Some(last) if !last.is_empty() => last,
        _ => path,
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
        assert_eq!(name(&frame), "libfoo.so.1+0x1234");
        frame.module = None;
        assert_eq!(name(&frame), "0x7f001234");
        frame.function = Some("f".to_owned());
        assert_eq!(name(&frame), "f");
        assert_eq!(base_name("[vdso]"), "[vdso]");
        assert_eq!(base_name("/"), "/");
    }
}
