//! Named frames → the first one outside of allocators and standard libraries: the one to look at.
//! Knows names only; opens nothing.

use super::Frame;

/// Libraries that allocate for those who call them, by the beginning of their file's name.
const LIBRARIES: [&str; 12] = [
    "libc.so",
    "libc-2",
    "libc.musl",
    "ld-linux",
    "ld-musl",
    "libstdc++.so",
    "libc++.so",
    "libc++abi",
    "libgcc_s",
    "libjemalloc",
    "libtcmalloc",
    "libmimalloc",
];

/// Namespaces of standard libraries.
const NAMESPACES: [&str; 8] = [
    "std::",
    "core::",
    "alloc::",
    "hashbrown::",
    "__gnu_cxx::",
    "__rust_",
    "__rdl_",
    "operator new",
];

/// Functions that many programs put around malloc.
const WRAPPERS: [&str; 44] = [
    "xmalloc",
    "xcalloc",
    "xrealloc",
    "xstrdup",
    "xstrndup",
    "xmemdup",
    "xzalloc",
    "xnmalloc",
    "zmalloc",
    "zcalloc",
    "zrealloc",
    "ztrymalloc",
    "zmalloc_usable",
    "ztrymalloc_usable",
    "ztrymalloc_usable_internal",
    "zstrdup",
    "g_malloc",
    "g_malloc0",
    "g_malloc_n",
    "g_malloc0_n",
    "g_realloc",
    "g_try_malloc",
    "g_strdup",
    "g_strndup",
    "g_memdup2",
    "g_slice_alloc",
    "g_slice_alloc0",
    "CRYPTO_malloc",
    "CRYPTO_zalloc",
    "CRYPTO_realloc",
    "CRYPTO_strdup",
    "sqlite3Malloc",
    "sqlite3MemMalloc",
    "sqlite3_malloc",
    "ngx_alloc",
    "ngx_calloc",
    "ngx_palloc",
    "av_malloc",
    "av_mallocz",
    "emalloc",
    "uv__malloc",
    "safe_malloc",
    "checked_malloc",
    "PyMem_RawMalloc",
];

/// Index of the frame to look at; absent when there is none.
pub fn suspect(frames: &[Frame]) -> Option<usize> {
    frames.iter().position(|frame| !is_inner(frame))
}

fn is_inner(frame: &Frame) -> bool {
    let module = frame.module.as_deref().unwrap_or_default();
    let file = module.rsplit('/').next().unwrap_or_default();
    if LIBRARIES.iter().any(|library| file.starts_with(library)) {
        return true;
    }
    let Some(function) = frame.function.as_deref() else {
        return false;
    };
    let name = own_name(function);
    NAMESPACES.iter().any(|space| name.starts_with(space)) || WRAPPERS.contains(&name)
}

/// A function's name without its return type, the trait's brackets and what compilers append:
/// templates carry their return type, which may well be of the standard library.
fn own_name(function: &str) -> &str {
    if function.starts_with("operator new") {
        return function;
    }
    let mut depth = 0_i32;
    let mut begin = 0;
    for (at, c) in function.char_indices() {
        match c {
            '(' if depth == 0 && at > begin => break,
            '<' | '(' => depth += 1,
            '>' | ')' => depth -= 1,
            ' ' if depth == 0 => begin = at + 1,
            _ => {}
        }
    }
    let name = function[begin..].trim_start_matches('<');
    match name.find(['.', '@']) {
        Some(end) if end > 0 && !name[..end].contains(':') => &name[..end],
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(function: &str, module: &str) -> Frame {
        Frame {
            function: Some(function.to_owned()),
            module: Some(module.to_owned()),
            ..Frame::default()
        }
    }

    #[test]
    fn the_first_frame_of_the_program_itself_is_marked() {
        let api = "/usr/bin/api";
        let frames = [
            frame("strdup", "/usr/lib/x86_64-linux-gnu/libc.so.6"),
            frame("xmalloc.part.0", api),
            frame(
                "std::vector<int, std::allocator<int> >::push_back(int&&)",
                api,
            ),
            frame("void std::vector<A>::_M_realloc_insert<A const&>(A*)", api),
            frame("<alloc::raw_vec::RawVec<T> as core::ops::Drop>::grow", api),
            frame("Cart::add(std::string const&)", api),
            frame("main", api),
        ];
        assert_eq!(suspect(&frames), Some(5));
        assert_eq!(suspect(&frames[..5]), None);
    }

    #[test]
    fn a_function_that_returns_or_takes_what_is_standard_is_the_programs_own() {
        for own in [
            "std::string render<Page>(Page const&)",
            "handle(std::vector<int>)",
            "api::standard::serve",
            "<api::Cache as core::fmt::Debug>::fmt",
            "malloc_stats_of_mine",
            "(anonymous namespace)::keep()",
        ] {
            assert_eq!(suspect(&[frame(own, "/usr/bin/api")]), Some(0), "{own}");
        }
    }

    #[test]
    fn code_without_a_name_is_looked_at_unless_its_library_is_known() {
        let unnamed = |module: &str| Frame {
            module: Some(module.to_owned()),
            ..Frame::default()
        };
        let frames = [unnamed("/lib/ld-linux-x86-64.so.2"), unnamed("/opt/a.so")];
        assert_eq!(suspect(&frames), Some(1));
    }
}
