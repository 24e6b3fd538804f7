//! A breakpoint in a process that is held by ptrace, and what it leaves in the registers. Runs nothing
//! and waits for nothing. Another architecture is another `registers` module here.

use anyhow::bail;
use nix::sys::ptrace;
use nix::unistd::Pid;

/// A place that is to be stopped at.
pub(super) struct Breakpoint {
    address: u64,
    /// What stood there before.
    code: i64,
}

impl Breakpoint {
    pub(super) const fn at(address: u64) -> Self {
        Self { address, code: 0 }
    }

    /// Whether the instruction there is the one that runs next.
    pub(super) fn is_next(&self, tid: Pid) -> anyhow::Result<bool> {
        Ok(registers::program_counter(tid)? == self.address)
    }

    /// Puts the breakpoint in place of the instruction.
    pub(super) fn set(&mut self, tid: Pid) -> anyhow::Result<()> {
        let place = self.address as ptrace::AddressType;
        self.code = ptrace::read(tid, place)?;
        let code = (self.code & !registers::BREAKPOINT_MASK) | registers::BREAKPOINT;
        Ok(ptrace::write(tid, place, code)?)
    }

    /// Puts the instruction back, as the one that runs next. Fails when the process stands elsewhere.
    pub(super) fn take_back(self, tid: Pid) -> anyhow::Result<()> {
        ptrace::write(tid, self.address as ptrace::AddressType, self.code)?;
        if registers::program_counter(tid)? != self.address + registers::BEHIND_BREAKPOINT {
            bail!("it stopped elsewhere than at the breakpoint");
        }
        registers::set_program_counter(tid, self.address)
    }
}

#[cfg(target_arch = "x86_64")]
mod registers {
    use nix::sys::ptrace;
    use nix::unistd::Pid;

    /// `int3`, of one byte.
    pub(super) const BREAKPOINT: i64 = 0xcc;
    pub(super) const BREAKPOINT_MASK: i64 = 0xff;

    /// How far the program counter is behind a breakpoint that was run into.
    pub(super) const BEHIND_BREAKPOINT: u64 = 1;

    pub(super) fn program_counter(tid: Pid) -> anyhow::Result<u64> {
        Ok(ptrace::getregs(tid)?.rip)
    }

    pub(super) fn set_program_counter(tid: Pid, address: u64) -> anyhow::Result<()> {
        let mut registers = ptrace::getregs(tid)?;
        registers.rip = address;
        Ok(ptrace::setregs(tid, registers)?)
    }
}

/// Nothing gets as far as this: a machine that is not supported is refused before.
#[cfg(not(target_arch = "x86_64"))]
mod registers {
    use std::env::consts::ARCH;

    use anyhow::bail;
    use nix::unistd::Pid;

    pub(super) const BREAKPOINT: i64 = 0;
    pub(super) const BREAKPOINT_MASK: i64 = 0;
    pub(super) const BEHIND_BREAKPOINT: u64 = 0;

    pub(super) fn program_counter(_tid: Pid) -> anyhow::Result<u64> {
        bail!("leaktrace does not support {ARCH} yet")
    }

    pub(super) fn set_program_counter(_tid: Pid, _address: u64) -> anyhow::Result<()> {
        bail!("leaktrace does not support {ARCH} yet")
    }
}
