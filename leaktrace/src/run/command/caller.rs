//! Makes a command run as the user who called sudo. Starts nothing.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, bail};
use nix::unistd::User;

/// Makes the command run as the user who called sudo, with that user's groups and home.
pub(super) fn become_caller(command: &mut Command) -> anyhow::Result<()> {
    if std::env::var_os("SUDO_UID").is_none() {
        return Ok(());
    }
    let number = |name| std::env::var(name).ok()?.parse::<u32>().ok();
    let (Some(uid), Some(gid)) = (number("SUDO_UID"), number("SUDO_GID")) else {
        bail!(
            "cannot give up root for the command: SUDO_UID and SUDO_GID are not both numbers; set \
             them, or let it run as root with --as-root"
        );
    };
    if uid == 0 || !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let user = User::from_uid(uid.into()).context("failed to look up the user who called sudo")?;
    if let Some(user) = user {
        let name = std::ffi::CString::new(user.name.as_str())?;
        let groups = nix::unistd::getgrouplist(&name, gid.into())
            .context("failed to look up the groups of the user who called sudo")?;
        // SAFETY: one system call between fork and exec. Before the ids change, which std does
        // first for `uid`, `gid`: this runs while still root because both are set below, here.
        unsafe {
            command.pre_exec(move || {
                nix::unistd::setgroups(&groups)?;
                nix::unistd::setgid(gid.into())?;
                Ok(nix::unistd::setuid(uid.into())?)
            });
        }
        let home: PathBuf = user.dir;
        command
            .env("USER", &user.name)
            .env("LOGNAME", &user.name)
            .env("HOME", home);
    } else {
        command.uid(uid).gid(gid);
    }
    log::info!("the command runs as user {uid}, who called sudo; --as-root keeps root");
    Ok(())
}
