//! uprobe_multi links (Linux 6.6): many offsets of one object with one link, CAP_BPF and
//! CAP_PERFMON suffice, and detaching takes one step. aya 0.14 cannot load a program for them
//! nor create them, so both is done here, on the maps that aya has created.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use aya::Ebpf;
use aya_obj::generated::{bpf_attach_type, bpf_cmd, bpf_prog_type};
use aya_obj::{Function, Object};

use super::attach::{PROGRAMS, program_name};
use super::load::{LoadError, LoadedPrograms, map_data};
use super::syscall::{bpf_fd, no_attributes};
use crate::probes::Program;

const LOG_BYTES: usize = 1 << 20;

/// Points of one object that one program is attached to.
pub(super) struct Points<'a> {
    /// Path that leads to the object, also after its file was replaced.
    pub(super) path: &'a str,
    /// Process whose hits count.
    pub(super) tgid: u32,
    /// File offsets.
    pub(super) offsets: &'a [u64],
    /// Attach cookies, one an offset.
    pub(super) cookies: &'a [u64],
    /// Whether the program runs at the return of the function instead of at the offset.
    pub(super) at_return: bool,
}

/// The probe programs.
pub(super) struct Programs {
    object: Object,
    types: Option<OwnedFd>,
}

impl Programs {
    /// Those of a BPF object, without maps.
    ///
    /// # Errors
    ///
    /// When the object is damaged.
    pub(super) fn of(data: &[u8]) -> Result<Self, LoadError> {
        let mut object = Object::parse(data).map_err(|error| damaged(&error))?;
        let types = load_types(&mut object)?;
        Ok(Self { object, types })
    }

    /// Puts them on the maps that aya has created.
    ///
    /// # Errors
    ///
    /// When the object is damaged.
    pub(super) fn use_maps(&mut self, ebpf: &Ebpf) -> Result<(), LoadError> {
        relocate(&mut self.object, ebpf)
    }

    /// Loads them with the attach type that multi links demand, and does something else meanwhile:
    /// the kernel's verifier takes most of the time of an attach, one CPU for each program.
    ///
    /// # Errors
    ///
    /// When the kernel refuses a program, with the verifier's last words, or what else was done
    /// fails.
    pub(super) fn load<T>(
        &self,
        meanwhile: impl FnOnce() -> Result<T, LoadError>,
    ) -> Result<(LoadedPrograms, T), LoadError> {
        std::thread::scope(|scope| {
            let threads = PROGRAMS.map(|program| scope.spawn(move || self.load_one(program)));
            let done = meanwhile()?;
            let loaded: Result<LoadedPrograms, LoadError> = threads
                .into_iter()
                .map(|thread| thread.join().unwrap_or(Err(LoadError::Panicked)))
                .collect();
            Ok((loaded?, done))
        })
    }

    fn load_one(&self, program: Program) -> Result<(&'static str, OwnedFd), LoadError> {
        let name = program_name(program);
        let function = self
            .object
            .programs
            .get(name)
            .and_then(|program| self.object.functions.get(&program.function_key()))
            .ok_or_else(|| damaged(&format!("program {name} is not in it")))?;
        let fd = load_program(name, function, &self.object.license, self.types.as_ref())
            .map_err(|reason| LoadError::Program { name, reason })?;
        Ok((name, fd))
    }
}

/// Attaches a loaded program.
///
/// # Errors
///
/// What the kernel said; ESRCH when the process is gone.
pub(super) fn link(program: &OwnedFd, points: &Points<'_>) -> io::Result<OwnedFd> {
    // BPF_F_UPROBE_MULTI_RETURN of the kernel's uapi/linux/bpf.h.
    const AT_RETURN: u32 = 1;
    let path = CString::new(points.path)?;
    let mut attributes = no_attributes();
    attributes.link_create.__bindgen_anon_1.prog_fd = program.as_raw_fd().cast_unsigned();
    attributes.link_create.attach_type = bpf_attach_type::BPF_TRACE_UPROBE_MULTI as u32;
    // SAFETY: writing one variant of a union of integer structs.
    let multi = unsafe { &mut attributes.link_create.__bindgen_anon_3.uprobe_multi };
    multi.path = path.as_ptr() as u64;
    multi.offsets = points.offsets.as_ptr() as u64;
    multi.cookies = points.cookies.as_ptr() as u64;
    multi.cnt = u32::try_from(points.offsets.len()).map_err(io::Error::other)?;
    multi.flags = if points.at_return { AT_RETURN } else { 0 };
    multi.pid = points.tgid;
    bpf_fd(bpf_cmd::BPF_LINK_CREATE, &mut attributes)
}

fn damaged(reason: &dyn std::fmt::Display) -> LoadError {
    LoadError::Program {
        name: "object",
        reason: format!("it is damaged: {reason}"),
    }
}

/// Gives the object's BTF to the kernel: callbacks of bpf_loop need it.
fn load_types(object: &mut Object) -> Result<Option<OwnedFd>, LoadError> {
    let Some(features) = aya::features().btf() else {
        return Ok(None);
    };
    let Some(types) = object
        .fixup_and_sanitize_btf(features)
        .map_err(|error| damaged(&error))?
    else {
        return Ok(None);
    };
    let bytes = types.to_bytes();
    let mut attributes = no_attributes();
    // SAFETY: writing one variant of a union of integer structs.
    let load = unsafe { &mut attributes.__bindgen_anon_7 };
    load.btf = bytes.as_ptr() as u64;
    load.btf_size = u32::try_from(bytes.len()).map_err(|error| damaged(&error))?;
    bpf_fd(bpf_cmd::BPF_BTF_LOAD, &mut attributes)
        .map(Some)
        .map_err(|error| LoadError::Program {
            name: "BTF",
            reason: error.to_string(),
        })
}

fn relocate(object: &mut Object, ebpf: &Ebpf) -> Result<(), LoadError> {
    let maps = std::mem::take(&mut object.maps);
    let text = object
        .functions
        .keys()
        .map(|(section, _)| *section)
        .collect();
    let fds = maps.iter().filter_map(|(name, map)| {
        let data = ebpf.map(name).and_then(map_data)?;
        Some((name.as_str(), data.fd().as_fd().as_raw_fd(), map))
    });
    object
        .relocate_maps(fds, &text)
        .map_err(|error| damaged(&error))?;
    object
        .relocate_calls(&text)
        .map_err(|error| damaged(&error))?;
    object.sanitize_functions(aya::features());
    Ok(())
}

fn load_program(
    name: &str,
    function: &Function,
    license: &std::ffi::CStr,
    types: Option<&OwnedFd>,
) -> Result<OwnedFd, String> {
    match try_load(name, function, license, types, &mut []) {
        Ok(fd) => Ok(fd),
        // Once more with the verifier's log, which is only worth its cost when it is needed.
        Err(_) => {
            let mut log = vec![0u8; LOG_BYTES];
            try_load(name, function, license, types, &mut log)
                .map_err(|error| format!("{error}; verifier: {}", last_lines(&log)))
        }
    }
}

fn try_load(
    name: &str,
    function: &Function,
    license: &std::ffi::CStr,
    types: Option<&OwnedFd>,
    log: &mut [u8],
) -> io::Result<OwnedFd> {
    let lines = function.line_info.line_info_bytes();
    let functions = function.func_info.func_info_bytes();
    let mut attributes = no_attributes();
    // SAFETY: writing one variant of a union of integer structs.
    let load = unsafe { &mut attributes.__bindgen_anon_3 };
    load.prog_type = bpf_prog_type::BPF_PROG_TYPE_KPROBE as u32;
    load.expected_attach_type = bpf_attach_type::BPF_TRACE_UPROBE_MULTI as u32;
    load.insns = function.instructions.as_ptr() as u64;
    load.insn_cnt = u32::try_from(function.instructions.len()).map_err(io::Error::other)?;
    load.license = license.as_ptr() as u64;
    for (place, byte) in load.prog_name.iter_mut().take(15).zip(name.bytes()) {
        // Signed on x86-64 and unsigned on aarch64.
        *place = byte as std::ffi::c_char;
    }
    if let Some(types) = types {
        load.prog_btf_fd = types.as_raw_fd().cast_unsigned();
        load.line_info = lines.as_ptr() as u64;
        load.line_info_cnt = records(lines.len(), function.line_info_rec_size);
        load.line_info_rec_size = u32::try_from(function.line_info_rec_size).unwrap_or(0);
        load.func_info = functions.as_ptr() as u64;
        load.func_info_cnt = records(functions.len(), function.func_info_rec_size);
        load.func_info_rec_size = u32::try_from(function.func_info_rec_size).unwrap_or(0);
    }
    if !log.is_empty() {
        load.log_level = 1;
        load.log_buf = log.as_mut_ptr() as u64;
        load.log_size = u32::try_from(log.len()).map_err(io::Error::other)?;
    }
    bpf_fd(bpf_cmd::BPF_PROG_LOAD, &mut attributes)
}

fn records(length_bytes: usize, record_bytes: usize) -> u32 {
    u32::try_from(length_bytes.checked_div(record_bytes).unwrap_or(0)).unwrap_or(0)
}

fn last_lines(log: &[u8]) -> String {
    let end = log.iter().position(|byte| *byte == 0).unwrap_or(log.len());
    let text = String::from_utf8_lossy(&log[..end]);
    if std::env::var_os("LEAKTRACE_VERIFIER_LOG").is_some() {
        return text.into_owned();
    }
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.starts_with("processed "))
        .collect();
    lines[lines.len().saturating_sub(2)..].join("; ")
}
