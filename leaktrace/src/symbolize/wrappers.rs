//! A function's name → whether it hands out memory for those who call it, as `xmalloc`, `ngx_palloc`
//! and `MemoryContextAlloc` do. Knows names only.

/// Names that say so in no word of their own, or whose callers are what is meant.
const BY_NAME: [&str; 34] = [
    "AllocSetAllocChunkFromBlock",
    "AllocSetAllocFromNewBlock",
    "AllocSetContextCreate",
    "AllocSetContextCreateInternal",
    "GenerationContextCreate",
    "SlabContextCreate",
    "_PyObject_GC_New",
    "_PyObject_GC_NewVar",
    "_PyObject_New",
    "_PyObject_NewVar",
    "_PyType_AllocNoTrack",
    "alloc_root",
    "apr_pool_create_ex",
    "g_slice_copy",
    "mallocWithAlarm",
    "memdup_root",
    "multi_alloc_root",
    "new_arena",
    "ngx_create_pool",
    "ngx_create_temp_buf",
    "pool_get_from_os",
    "pool_refill_local_from_os",
    "pool_refill_local_from_shared",
    "psprintf",
    "pvsnprintf",
    "strdup_root",
    "talloc_named",
    "talloc_named_const",
    "talloc_pool",
    "talloc_size",
    "talloc_zero_size",
    "_talloc_array",
    "_talloc_zero",
    "__rust_no_alloc_shim_is_unstable",
];

/// How the word ends that says what such a function does, whatever stands before it.
const VERBS: [&str; 13] = [
    "malloc",
    "mallocz",
    "calloc",
    "realloc",
    "reallocf",
    "reallocarray",
    "memalign",
    "palloc",
    "strdup",
    "strndup",
    "memdup",
    "memdupz",
    "asprintf",
];

/// `alloc` itself has at most so many letters before it in its word: `palloc`, `zalloc`, `talloc`.
const MOST_LETTERS_BEFORE_ALLOC: usize = 2;

/// Words that only say in which way, behind the one that says what.
const WAYS: [&str; 44] = [
    "abort", "aligned", "array", "block", "bytes", "chunk", "checked", "clear", "default", "die",
    "ex", "extended", "failed", "fast", "fatal", "finish", "fixed", "from", "full", "huge", "impl",
    "inline", "internal", "large", "locked", "loc", "n", "new", "nn", "nofail", "noprof", "num",
    "oom", "or", "os", "page", "printf", "raw", "slow", "small", "usable", "vprintf", "zero",
    "zeroed",
];

/// Whether the function's own name, without namespaces and parameters, is that of a wrapper.
pub(super) fn is_wrapper(name: &str) -> bool {
    if BY_NAME.contains(&name) {
        return true;
    }
    let words = words(name);
    let says_what = words.iter().rposition(|word| !is_way(word));
    says_what.is_some_and(|at| allocates(&words[at]))
}

fn allocates(word: &str) -> bool {
    if VERBS.iter().any(|verb| word.ends_with(verb)) {
        return true;
    }
    let before = word
        .strip_suffix("alloc")
        .or_else(|| word.strip_suffix("allocate"));
    before.is_some_and(|before| before.len() <= MOST_LETTERS_BEFORE_ALLOC && before != "de")
}

fn is_way(word: &str) -> bool {
    WAYS.contains(&word) || word.bytes().all(|byte| byte.is_ascii_digit())
}

/// The words of `snake_case` and `CamelCase` in small letters, digits apart: `PyMem_RawMalloc` has `py`,
/// `mem`, `raw`, `malloc`. A lone capital belongs to what follows, so that `StrDup` is one word.
fn words(name: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut before = '_';
    for c in name.chars() {
        let begins = before == '_'
            || before.is_lowercase() && c.is_uppercase()
            || before.is_ascii_digit() != c.is_ascii_digit();
        match words.last_mut() {
            _ if c == '_' => {}
            Some(word) if !begins => word.extend(c.to_lowercase()),
            _ => words.push(c.to_lowercase().collect()),
        }
        before = c;
    }
    join_duplicates(words)
}

/// `str`, `dup` as in `xmlStrDup` and `str_dup` is `strdup`; likewise `mem`, `dup` and `re`, `alloc`.
fn join_duplicates(words: Vec<String>) -> Vec<String> {
    let mut joined: Vec<String> = Vec::new();
    for word in words {
        match joined.last_mut() {
            Some(last)
                if word == "dup" && ["str", "strn", "mem"].contains(&last.as_str())
                    || word == "alloc" && ["m", "c", "re", "z"].contains(&last.as_str()) =>
            {
                last.push_str(&word);
            }
            _ => joined.push(word),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrappers_of_real_programs_are_known() {
        for name in [
            // postgres
            "palloc",
            "palloc0",
            "palloc_extended",
            "repalloc",
            "repalloc_huge",
            "pstrdup",
            "pnstrdup",
            "AllocSetAlloc",
            "AllocSetAllocLarge",
            "AllocSetAllocFromNewBlock",
            "AllocSetRealloc",
            "GenerationAlloc",
            "SlabAlloc",
            "MemoryContextAlloc",
            "MemoryContextAllocZero",
            "MemoryContextAllocZeroAligned",
            "MemoryContextAllocHuge",
            "MemoryContextAllocExtended",
            "MemoryContextStrdup",
            "pg_malloc_internal",
            // nginx
            "ngx_alloc",
            "ngx_calloc",
            "ngx_palloc",
            "ngx_pnalloc",
            "ngx_pcalloc",
            "ngx_palloc_block",
            "ngx_palloc_large",
            "ngx_memalign",
            "ngx_create_pool",
            "ngx_pstrdup",
            // redis
            "zmalloc",
            "zcalloc",
            "zcalloc_num",
            "zrealloc",
            "zmalloc_usable",
            "ztrymalloc_usable_internal",
            "ztryrealloc_usable",
            "zstrdup",
            // glib
            "g_malloc",
            "g_malloc0",
            "g_malloc0_n",
            "g_try_realloc_n",
            "g_slice_alloc0",
            "g_strdup",
            "g_strdup_printf",
            "g_strdup_vprintf",
            "g_memdup2",
            // others
            "CRYPTO_malloc",
            "CRYPTO_zalloc",
            "CRYPTO_clear_realloc",
            "CRYPTO_strndup",
            "sqlite3Malloc",
            "sqlite3DbMallocRawNN",
            "sqlite3DbStrDup",
            "sqlite3MemRealloc",
            "PyMem_RawMalloc",
            "_PyObject_Malloc",
            "PyType_GenericAlloc",
            "_PyObject_GC_New",
            "Perl_safesysmalloc",
            "Perl_safesysrealloc",
            "apr_palloc",
            "apr_pstrdup",
            "apr_allocator_alloc",
            "talloc_strdup",
            "_talloc_array",
            "uv__malloc",
            "av_mallocz",
            "_emalloc_56",
            "_safe_emalloc",
            "ruby_xmalloc2",
            "luaM_malloc_",
            "xmalloc_or_die",
            "do_xmalloc",
            "mem_pool_alloc",
            "my_malloc",
            "xmlStrdup",
            "checked_malloc",
            "xasprintf",
            "Allocate",
        ] {
            assert!(is_wrapper(name), "{name}");
        }
    }

    #[test]
    fn functions_that_do_more_than_allocate_are_not() {
        for name in [
            "main",
            "handle_request",
            "malloc_stats_of_mine",
            "realloc_table",
            "alloc_session",
            "dealloc",
            "preallocate",
            "list_dealloc",
            "allocation_rate",
            "duplicate",
            "PyDict_New",
            "ngx_http_create_request",
            "raw_input",
            "new_block",
            "zero_page",
            "x",
            "",
            "_",
        ] {
            assert!(!is_wrapper(name), "{name}");
        }
    }
}
