//! Fetches packages without installing them: qemu, busybox and kernels are unpacked into folders of
//! their own. Uses the mirrors of this machine, with package lists that its own apt never sees.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use super::emulated::Emulator;
use super::kernels::{self, Archive, Kernel, RELEASES};
use crate::{
    command::{output, say},
    workspace,
};

/// Comes with every Debian.
const KEYS: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// The emulator, and the program that is in every guest.
const EMULATOR: &str = "qemu-system-x86_64";
const EMULATOR_PACKAGE: &str = "qemu-system-x86";
const BUSYBOX_PACKAGE: &str = "busybox-static";

/// An apt that knows the lists of the kernels' releases and of this machine's.
pub(crate) struct Packages {
    folder: PathBuf,
}

/// A kernel that lies unpacked.
pub(crate) struct Unpacked {
    /// Its package.
    pub(crate) package: String,
    /// What the emulator boots.
    pub(crate) image: PathBuf,
}

impl Packages {
    /// Brings the lists up to date; goes on with those of last time when there is no network.
    ///
    /// # Errors
    /// When there are no lists at all, or no apt.
    pub(crate) fn open(folder: &Path) -> Result<Self> {
        let packages = Self {
            folder: folder.to_owned(),
        };
        for made in ["apt/state/lists/partial", "apt/cache/archives/partial"] {
            let made = folder.join(made);
            fs::create_dir_all(&made).with_context(|| format!("cannot make {}", made.display()))?;
        }
        packages.write("apt/status", "")?;
        let (own, all) = sources(&own_archives()?)?;
        packages.write("apt/own.list", &own)?;
        packages.write("apt/sources.list", &all)?;
        if let Err(error) = output(packages.apt("apt-get").args(["-q", "update"])) {
            if packages.names()?.is_empty() {
                return Err(error);
            }
            say(&format!(
                "vm: with the package lists of last time: {error:#}"
            ));
        }
        Ok(packages)
    }

    /// The newest kernel of a series, unpacked.
    ///
    /// # Errors
    /// When the archives do not have it.
    pub(crate) fn kernel(&self, kernel: &Kernel) -> Result<Unpacked> {
        let names = self.names()?;
        let names = names.iter().map(String::as_str);
        let package = kernels::newest(names, kernel.package).with_context(|| {
            format!("no package {}*-cloud-amd64 in the archives", kernel.package)
        })?;
        let root = self.unpacked(package, &[package])?;
        let image = find(&root, &|name| name.starts_with("vmlinuz"))?
            .with_context(|| format!("no kernel in {package}"))?;
        Ok(Unpacked {
            package: package.to_owned(),
            image,
        })
    }

    /// The emulator of this machine, or one that is only unpacked.
    ///
    /// # Errors
    /// When it cannot be had.
    pub(crate) fn emulator(&self) -> Result<Emulator> {
        if let Some(program) = workspace::on_path(EMULATOR) {
            let root = None;
            return Ok(Emulator { program, root });
        }
        let root = self.folder.join("unpacked").join(EMULATOR_PACKAGE);
        if !root.exists() {
            let needed = self.closure(EMULATOR_PACKAGE)?;
            let needed: Vec<&str> = needed.iter().map(String::as_str).collect();
            self.unpacked(EMULATOR_PACKAGE, &needed)?;
        }
        Ok(Emulator {
            program: root.join("usr/bin").join(EMULATOR),
            root: Some(root),
        })
    }

    /// A busybox that needs no library.
    ///
    /// # Errors
    /// When it cannot be had.
    pub(crate) fn busybox(&self) -> Result<PathBuf> {
        let root = self.unpacked(BUSYBOX_PACKAGE, &[BUSYBOX_PACKAGE])?;
        find(&root, &|name| name == "busybox")?
            .with_context(|| format!("no program in {BUSYBOX_PACKAGE}"))
    }

    /// Every package in the lists.
    fn names(&self) -> Result<Vec<String>> {
        let names = output(self.apt("apt-cache").arg("pkgnames"))?;
        Ok(names.lines().map(str::to_owned).collect())
    }

    /// The package and what it needs that is not installed here: a library that is must come from
    /// here, because it goes with this machine's C library.
    fn closure(&self, package: &str) -> Result<BTreeSet<String>> {
        let mut query = self.apt("apt-cache");
        // Else another release's packages come along that provide the same names.
        let own = self.folder.join("apt/own.list");
        query.arg(format!("-o=Dir::Etc::sourcelist={}", own.display()));
        query.args(["depends", "--recurse", "--no-recommends", "--no-suggests"]);
        query.args([
            "--no-conflicts",
            "--no-breaks",
            "--no-replaces",
            "--no-enhances",
        ]);
        let needed = output(query.arg(package))?;
        let installed = output(Command::new("dpkg-query").args(["-W", "-f", "${Package}\\n"]))?;
        let installed: BTreeSet<&str> = installed.lines().collect();
        let named = |line: &&str| line.starts_with(|first: char| first.is_ascii_alphanumeric());
        Ok(needed
            .lines()
            .filter(named)
            .filter(|name| !installed.contains(name) && !name.contains(':'))
            .map(str::to_owned)
            .collect())
    }

    /// The folder with these packages in it, downloaded unless it is there.
    fn unpacked(&self, name: &str, packages: &[&str]) -> Result<PathBuf> {
        let root = self.folder.join("unpacked").join(name);
        if root.exists() {
            return Ok(root);
        }
        say(&format!("vm: fetching {name}"));
        // Made elsewhere and renamed: an interrupted run must not leave half of it behind.
        let unfinished = self.folder.join("unfinished");
        if unfinished.exists() {
            fs::remove_dir_all(&unfinished)
                .with_context(|| format!("cannot remove {}", unfinished.display()))?;
        }
        let (archives, files) = (unfinished.join("archives"), unfinished.join("files"));
        for made in [&archives, &files] {
            fs::create_dir_all(made).with_context(|| format!("cannot make {}", made.display()))?;
        }
        let mut download = self.apt("apt-get");
        download.args(["-q", "download"]).args(packages);
        output(download.current_dir(&archives))?;
        for archive in listed(&archives)? {
            output(Command::new("dpkg").arg("-x").args([&archive, &files]))?;
        }
        if let Some(parent) = root.parent() {
            fs::create_dir_all(parent)
                .with_context(|| format!("cannot make {}", parent.display()))?;
        }
        fs::rename(&files, &root).with_context(|| format!("cannot make {}", root.display()))?;
        Ok(root)
    }

    fn apt(&self, program: &str) -> Command {
        let apt = self.folder.join("apt");
        let mut command = Command::new(program);
        for (option, value) in [
            ("Dir::Etc::sourcelist", apt.join("sources.list")),
            ("Dir::Etc::sourceparts", "/dev/null".into()),
            ("Dir::State", apt.join("state")),
            ("Dir::State::status", apt.join("status")),
            ("Dir::Cache", apt.join("cache")),
            // Its own user for downloads may not enter a target folder.
            ("APT::Sandbox::User", "root".into()),
            ("Acquire::Languages", "none".into()),
        ] {
            command.arg(format!("-o={option}={}", value.display()));
        }
        command
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.folder.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    }
}

/// The archives that this machine's apt has packages from: address and release.
fn own_archives() -> Result<Vec<(String, String)>> {
    let mut query = Command::new("apt-get");
    query.args(["indextargets", "--format", "$(REPO_URI) $(RELEASE)"]);
    let told = output(query.arg("Created-By: Packages"))?;
    let pairs = told.lines().filter_map(|line| line.split_once(' '));
    Ok(pairs
        .map(|(address, release)| (address.to_owned(), release.to_owned()))
        .collect())
}

/// The sources.list of this machine's own Debian release, and one with those of the kernels too.
fn sources(own: &[(String, String)]) -> Result<(String, String)> {
    let security = own
        .iter()
        .find(|(_, release)| release.ends_with("-security"));
    let Some((updates, release)) = security else {
        bail!("this machine's apt has no Debian security archive to find the mirrors by");
    };
    let release = release.trim_end_matches("-security");
    let Some((main, _)) = own.iter().find(|(_, name)| name == release) else {
        bail!("this machine's apt has no archive of {release} to find the mirrors by");
    };
    let line =
        |address: &str, name: &str| format!("deb [signed-by={KEYS}] {address} {name} main\n");
    let own_lines = [
        line(main, release),
        line(updates, &format!("{release}-security")),
    ];
    let mut lines = BTreeSet::from(own_lines.clone());
    for (archive, name) in RELEASES {
        lines.insert(match archive {
            Archive::Main => line(main, name),
            Archive::Security => line(updates, name),
        });
    }
    Ok((own_lines.concat(), lines.into_iter().collect()))
}

fn listed(folder: &Path) -> Result<Vec<PathBuf>> {
    let cannot = || format!("cannot list {}", folder.display());
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(cannot)? {
        found.push(entry.with_context(cannot)?.path());
    }
    found.sort();
    Ok(found)
}

/// The first file below with such a name.
fn find(folder: &Path, wanted: &dyn Fn(&str) -> bool) -> Result<Option<PathBuf>> {
    for path in listed(folder)? {
        if path.is_symlink() {
            continue;
        }
        if path.is_dir() {
            if let Some(found) = find(&path, wanted)? {
                return Ok(Some(found));
            }
        } else if path
            .file_name()
            .and_then(|name| name.to_str())
            .is_some_and(wanted)
        {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

#[cfg(test)]
#[expect(clippy::expect_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_archives_are_looked_for_at_the_mirrors_of_this_machine() {
        let own = [
            ("mirror/debian/", "trixie"),
            ("mirror/other/", "stable"),
            ("mirror/security/", "trixie-security"),
        ];
        let own = own.map(|(address, release)| (address.to_owned(), release.to_owned()));
        let (alone, sources) = sources(&own).expect("both archives are there");
        let line =
            |rest: &str| sources.contains(&format!("[signed-by={KEYS}] mirror/{rest} main\n"));
        assert!(line("debian/ trixie"), "{sources}");
        assert!(line("debian/ trixie-backports"), "{sources}");
        assert!(line("security/ trixie-security"), "{sources}");
        assert!(line("security/ bullseye-security"), "{sources}");
        assert_eq!(alone.lines().count(), 2, "{alone}");
        assert!(super::sources(&own[..2]).is_err());
    }
}
