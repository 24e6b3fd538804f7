//! Named frames → the first one outside of allocators, their wrappers and standard libraries: the one
//! to look at.
//! Knows names only; opens nothing.

use super::Frame;
use super::wrappers::is_wrapper;

/// Libraries that allocate for those who call them, by the beginning of their file's name.
const LIBRARIES: [&str; 14] = [
    "libc.so",
    "libc-2",
    "libc.musl",
    "ld-linux",
    "ld-musl",
    "libstdc++.so",
    "libc++.so",
    "libc++abi",
    "libgcc_s",
    "libpthread",
    "libffi.so",
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

/// Index of the frame to look at: the first outside of libraries that allocate for others and of the
/// program's own wrappers around them. Where there is nothing else, the outermost wrapper; absent when
/// all is the libraries'.
pub fn suspect(frames: &[Frame]) -> Option<usize> {
    let roles: Vec<Role> = frames.iter().map(role).collect();
    let position = |at: usize| match (roles[at], roles.get(at + 1)) {
        // A static function of the wrapper's, of which a stripped file does not say the name.
        (Role::Unnamed, Some(Role::Wrapper)) => Role::Wrapper,
        (role, _) => role,
    };
    let is_own = |at: &usize| matches!(position(*at), Role::Own | Role::Unnamed);
    let outermost_wrapper = || roles.iter().rposition(|role| *role == Role::Wrapper);
    (0..roles.len()).find(is_own).or_else(outermost_wrapper)
}

/// What a frame is to those who look for the cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// Code of a library that allocates for others, or of a standard library.
    Library,
    /// The program's own way to allocate.
    Wrapper,
    /// Code without a name, in a file that is none of the libraries.
    Unnamed,
    /// All other code.
    Own,
}

fn role(frame: &Frame) -> Role {
    let module = frame.module.as_deref().unwrap_or_default();
    let file = module.rsplit('/').next().unwrap_or_default();
    if LIBRARIES.iter().any(|library| file.starts_with(library)) {
        return Role::Library;
    }
    let Some(function) = frame.function.as_deref() else {
        return Role::Unnamed;
    };
    let name = own_name(function);
    if NAMESPACES.iter().any(|space| name.starts_with(space)) {
        return Role::Library;
    }
    match is_wrapper(last_part(name)) {
        true => Role::Wrapper,
        false => Role::Own,
    }
}

/// What stands behind the namespaces and the class, without template arguments and parameters.
fn last_part(name: &str) -> &str {
    let name = name.trim_start_matches("(anonymous namespace)::");
    let end = name.find(['<', '(']).unwrap_or(name.len());
    name[..end].rsplit("::").next().unwrap_or_default()
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
        assert_eq!(suspect(&frames[..5]), Some(1), "better than nothing");
        assert_eq!(suspect(&frames[..1]), None);
    }

    #[test]
    fn the_caller_of_a_programs_own_allocator_is_marked_not_its_parts() {
        let (nginx, postgres) = ("/usr/sbin/nginx", "/usr/lib/postgresql/15/bin/postgres");
        let request = [
            frame("ngx_memalign", nginx),
            frame("ngx_palloc_block", nginx),
            frame("ngx_palloc", nginx),
            frame("ngx_http_set_header", nginx),
            frame("ngx_pool_alloc", nginx),
        ];
        assert_eq!(suspect(&request), Some(3));
        let without_name = Frame {
            module: Some(postgres.to_owned()),
            ..Frame::default()
        };
        let statement = [
            without_name.clone(),
            frame("MemoryContextAllocZero", postgres),
            frame("CreateCachedPlan", postgres),
            without_name.clone(),
        ];
        assert_eq!(suspect(&statement), Some(2));
        assert_eq!(suspect(&statement[..2]), Some(1));
        assert_eq!(suspect(&statement[2..]), Some(0));
        assert_eq!(suspect(&statement[3..]), Some(0));
    }

    #[test]
    fn a_wrapper_is_one_in_whatever_class_it_stands() {
        let server = "/usr/bin/server";
        let frames = [
            frame("node::UncheckedMalloc<char>(unsigned long)", server),
            frame("kv::Arena::Allocate(unsigned long)", server),
            frame("kv::Table::Insert(kv::Key const&)", server),
        ];
        assert_eq!(suspect(&frames), Some(2));
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
