//! Names on the command line → which of the things that there are.

use anyhow::{Result, bail};

/// Those of `all` that are named, in their own order; all when none is.
///
/// # Errors
/// When there is nothing of a name, with the names that there are.
pub(crate) fn chosen<'a, T>(
    what: &str,
    names: &[String],
    all: &'a [T],
    name_of: impl Fn(&'a T) -> &'static str,
) -> Result<Vec<&'a T>> {
    let is_known = |name: &&String| all.iter().any(|one| name_of(one) == name.as_str());
    if let Some(name) = names.iter().find(|name| !is_known(name)) {
        let known: Vec<&str> = all.iter().map(&name_of).collect();
        bail!(
            "there is no {what} {name}; choose from {}",
            known.join(", ")
        );
    }
    let is_wanted = |one: &&'a T| names.is_empty() || names.iter().any(|name| name_of(one) == name);
    Ok(all.iter().filter(is_wanted).collect())
}

/// The same of things that are names themselves.
///
/// # Errors
/// As [`chosen`].
pub(crate) fn chosen_names(
    what: &str,
    names: &[String],
    all: &'static [&'static str],
) -> Result<Vec<&'static str>> {
    let chosen = chosen(what, names, all, |name| name)?;
    Ok(chosen.into_iter().copied().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUITES: [&str; 2] = ["exact", "losses"];

    fn chosen_suites(names: &[&str]) -> Result<Vec<&'static str>> {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        chosen_names("suite", &names, &SUITES)
    }

    #[test]
    fn what_is_not_there_cannot_be_chosen() {
        let refused = chosen_suites(&["losses", "uclibc"]);
        assert!(refused.is_err_and(|error| error.to_string().contains("uclibc")));
    }

    #[test]
    fn without_a_name_all_are_chosen() {
        assert!(chosen_suites(&["losses"]).is_ok_and(|suites| suites == ["losses"]));
        assert!(chosen_suites(&[]).is_ok_and(|suites| suites == SUITES));
    }
}
