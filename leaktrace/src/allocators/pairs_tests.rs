//! What the option `--pair` means, and what it refuses.

use super::*;

fn signatures(text: &str) -> Vec<CallSignature> {
    match text.parse::<Pair>() {
        Ok(pair) => pair
            .functions
            .iter()
            .map(|function| function.signature)
            .collect(),
        Err(error) => panic!("{text}: {error}"),
    }
}

#[test]
fn sizes_counts_and_pointers_stand_where_the_text_says() {
    let free = CallSignature::Free { pointer: 0 };
    assert_eq!(
        signatures("pool_alloc(1)/pool_free(0)"),
        [
            CallSignature::Allocate {
                amount: Some(Amount::of(1))
            },
            free
        ]
    );
    assert_eq!(
        signatures("get(2*1)/put(0)/change(0, 3)"),
        [
            CallSignature::Allocate {
                amount: Some(Amount::product(1, 2))
            },
            free,
            CallSignature::Reallocate {
                pointer: 0,
                amount: Some(Amount::of(3))
            }
        ]
    );
    for into in ["open(,>1)/close(0)", "open(>1)/close(0)"] {
        let pointer = CallSignature::AllocateInto {
            pointer: 1,
            amount: None,
        };
        assert_eq!(signatures(into), [pointer, free]);
    }
    let int = Amount {
        width: Width::Half,
        ..Amount::of(0)
    };
    assert_eq!(
        signatures("sqlite3_malloc(0i)/sqlite3_free(0)")[0],
        CallSignature::Allocate { amount: Some(int) }
    );
}

#[test]
fn objects_are_meant_by_path_by_name_or_without_their_version() {
    let pair: Pair = match "libdb:get()/libdb.so.3:put(0)/change(0)".parse() {
        Ok(pair) => pair,
        Err(error) => panic!("{error}"),
    };
    let [get, put, change] = pair.functions.as_slice() else {
        panic!("three functions");
    };
    let path = Path::new("/opt/lib/libdb.so.3");
    assert!(get.is_in(path) && put.is_in(path) && change.is_in(path));
    assert!(!get.is_in(Path::new("/opt/lib/libdbx.so")));
    assert!(!put.is_in(Path::new("/opt/lib/libdb.so.4")));
    assert!(!pair.has_sizes());
}

#[test]
fn what_is_no_pair_is_refused_with_one_line() {
    for wrong in [
        "",
        "malloc",
        "malloc(0)",
        "malloc(0)/",
        "malloc(0)free(0)",
        "malloc(0)/free()",
        "malloc(0)/free(0,1)",
        "malloc(6)/free(0)",
        "malloc(x)/free(0)",
        "malloc(0,1)/free(0)",
        "(0)/free(0)",
        "ns::get(0)/free(0)",
        ":get(0)/free(0)",
        "a(0)/b(0)/c()",
        "a(0)/b(0)/c(0,1)/d(0)",
        "a(0/b(0)",
    ] {
        let result = wrong.parse::<Pair>();
        let Err(error) = result else {
            panic!("{wrong} is taken as {result:?}");
        };
        assert!(!error.is_empty() && !error.contains('\n'), "{error}");
    }
}
