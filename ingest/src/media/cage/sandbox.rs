//! What a helper gives up before it reads a byte of anybody's: files, sockets, processes, memory without end.
//!
//! The process confines itself, so nothing of this needs unsafe code between fork and exec. Limits of resources and 'no
//! new privileges' work everywhere. The filter of system calls is what the rest hangs on: without it a helper refuses to
//! work unless [`Enforcement::Partial`] was asked for. Landlock is a second wall where the kernel has it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetStatus, Scope,
    path_beneath_rules,
};
use rustix::process::{Resource, Rlimit, Signal, set_parent_process_death_signal, setrlimit};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch,
};

/// Bytes of address space of a process that decodes: the largest pictures with what their decoders hold beside them, and
/// the program itself.
const MEMORY_MAX: u64 = 4 << 30;
/// Seconds of processor time in the life of a helper. The server replaces it long before.
const HELPER_CPU_SECONDS: u64 = 3600 + 600;
/// Open files of a helper: those it was started with.
const HELPER_FILES: u64 = 3;
/// Open files of another program: its input, its output and its libraries.
const PROGRAM_FILES: u64 = 64;
/// Newest Landlock that is made use of.
const LANDLOCK: ABI = ABI::V6;
/// Where programs and their libraries lie.
const LIBRARIES: [&str; 9] =
    ["/usr", "/lib", "/lib64", "/bin", "/opt", "/nix/store", "/gnu/store", "/etc/ld.so.cache", "/dev/null"];

/// What happens where the system refuses the filter of system calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Enforcement {
    /// Nothing is decoded.
    #[default]
    Full,
    /// Helpers run with what there is, and say what is missing.
    Partial,
}

/// Confines a helper; says what of it the system does not have.
pub fn confine_helper(enforcement: Enforcement) -> Result<Vec<String>, String> {
    limit(HELPER_CPU_SECONDS)?;
    confine(enforcement, helper_calls, &[], HELPER_FILES)
}

/// Confines what another program will inherit; says what of it the system does not have.
pub fn confine_program(
    enforcement: Enforcement,
    cpu_seconds: u64,
    program: &Path,
) -> Result<Vec<String>, String> {
    limit(cpu_seconds)?;
    let beside = program.canonicalize().ok().and_then(|path| Some(path.parent()?.to_path_buf()));
    let mut readable: Vec<PathBuf> = LIBRARIES.iter().map(PathBuf::from).collect();
    readable.extend(beside);
    readable.extend(program.parent().map(Path::to_path_buf));
    confine(enforcement, program_calls, &readable, PROGRAM_FILES)
}

/// Sets an end to memory and time, lets nothing be written, and ends with the server.
fn limit(cpu_seconds: u64) -> Result<(), String> {
    set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|error| format!("a helper cannot be made to end with the server: {error}"))?;
    for (resource, name, most) in [
        (Resource::As, "address space", MEMORY_MAX),
        (Resource::Cpu, "processor time", cpu_seconds),
        (Resource::Fsize, "written files", 0),
        (Resource::Core, "core dumps", 0),
        (Resource::Msgqueue, "message queues", 0),
        (Resource::Memlock, "locked memory", 0),
    ] {
        at_most(resource, name, most)?;
    }
    Ok(())
}

/// Lowers a limit; one that is lower already stays.
fn at_most(resource: Resource, name: &str, most: u64) -> Result<(), String> {
    if rustix::process::getrlimit(resource).maximum.is_some_and(|maximum| maximum <= most) {
        return Ok(());
    }
    setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })
        .map_err(|error| format!("the limit of {name} cannot be set: {error}"))
}

type Calls = fn() -> Result<BTreeMap<i64, Vec<SeccompRule>>, seccompiler::BackendError>;

fn confine(
    enforcement: Enforcement,
    calls: Calls,
    readable: &[PathBuf],
    files: u64,
) -> Result<Vec<String>, String> {
    let mut missing = Vec::new();
    let mut lacks = |words: String| match enforcement {
        Enforcement::Full => Err(words),
        Enforcement::Partial => {
            missing.push(words);
            Ok(())
        }
    };
    if let Err(error) = rustix::thread::set_no_new_privs(true) {
        lacks(format!("privileges cannot be given up: {error}"))?;
    }
    let landlock = restrict_files(readable);
    at_most(Resource::Nofile, "open files", files)?; // Landlock has needed some of its own
    if let Err(error) = filter(calls) {
        lacks(format!("system calls cannot be filtered (seccomp): {error}"))?;
    }
    if let Err(words) = landlock {
        missing.push(words); // the filter keeps files and sockets out
    }
    Ok(missing)
}

/// Lets the process read these folders and no other file, and use no address and no other's socket.
fn restrict_files(readable: &[PathBuf]) -> Result<(), String> {
    let rules = path_beneath_rules(readable, AccessFs::from_read(LANDLOCK));
    let restricted = Ruleset::default()
        .handle_access(AccessFs::from_all(LANDLOCK))
        .and_then(|ruleset| ruleset.handle_access(AccessNet::from_all(LANDLOCK)))
        .and_then(|ruleset| ruleset.scope(Scope::from_all(LANDLOCK)))
        .and_then(Ruleset::create)
        .and_then(|created| created.add_rules(rules))
        .and_then(|created| created.restrict_self());
    match restricted {
        Ok(status) if status.ruleset != RulesetStatus::NotEnforced => Ok(()),
        Ok(_) => Err("the kernel has no Landlock".to_string()),
        Err(error) => Err(format!("Landlock is refused: {error}")),
    }
}

/// Lets the process make these system calls and no others. The others say that there is no such call, so that a library
/// which tries a newer one falls back to what is allowed.
fn filter(calls: Calls) -> Result<(), String> {
    let words = |error: &dyn std::fmt::Display| error.to_string();
    let architecture = TargetArch::try_from(std::env::consts::ARCH).map_err(|error| words(&error))?;
    let refused = SeccompAction::Errno(libc::ENOSYS as u32);
    let rules = calls().map_err(|error| words(&error))?;
    let filter = SeccompFilter::new(rules, refused, SeccompAction::Allow, architecture)
        .map_err(|error| words(&error))?;
    let program: BpfProgram = filter.try_into().map_err(|error: seccompiler::BackendError| words(&error))?;
    seccompiler::apply_filter(&program).map_err(|error| words(&error))
}

/// A rule that holds if, of this argument, the bits of the mask are these.
fn bits(argument: u8, mask: i32, are: i32) -> Result<SeccompRule, seccompiler::BackendError> {
    let same = SeccompCmpOp::MaskedEq(mask as u64);
    SeccompRule::new(vec![SeccompCondition::new(argument, SeccompCmpArgLen::Dword, same, are as u64)?])
}

/// Bits of memory, clocks and an end: what every process needs.
const COMMON_CALLS: [i64; 22] = [
    libc::SYS_brk,
    libc::SYS_clock_getres,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_futex,
    libc::SYS_getpid,
    libc::SYS_getrandom,
    libc::SYS_gettid,
    libc::SYS_gettimeofday,
    libc::SYS_madvise,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_nanosleep,
    libc::SYS_restart_syscall,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_yield,
    libc::SYS_sigaltstack,
    libc::SYS_tgkill,
];

/// A helper reads its socket and writes to it, and that is all. Whatever other descriptor it may have been given is of
/// no use to it.
fn helper_calls() -> Result<BTreeMap<i64, Vec<SeccompRule>>, seccompiler::BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        COMMON_CALLS.into_iter().map(|call| (call, vec![])).collect();
    let descriptor = |number: i32| bits(0, -1, number);
    rules.insert(libc::SYS_read, vec![descriptor(0)?]);
    rules.insert(libc::SYS_write, vec![descriptor(1)?, descriptor(2)?]);
    // No memory that can be run, and none of files.
    let private = SeccompRule::new(vec![
        SeccompCondition::new(2, SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq(libc::PROT_EXEC as u64), 0)?,
        SeccompCondition::new(4, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, u64::from(u32::MAX))?,
    ])?;
    rules.insert(libc::SYS_mmap, vec![private]);
    rules.insert(libc::SYS_mprotect, vec![bits(2, libc::PROT_EXEC, 0)?]);
    Ok(rules)
}

/// What a program that reads a file and writes to a pipe needs besides, its start and its threads included. It opens
/// files for reading alone, starts no process, and has no socket.
const PROGRAM_CALLS: &[i64] = &[
    libc::SYS_close,
    libc::SYS_close_range,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_eventfd2,
    libc::SYS_execve,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_fadvise64,
    libc::SYS_fcntl,
    libc::SYS_fstat,
    libc::SYS_fstatfs,
    libc::SYS_get_mempolicy,
    libc::SYS_get_robust_list,
    libc::SYS_getcpu,
    libc::SYS_getcwd,
    libc::SYS_getdents64,
    libc::SYS_getegid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getpgid,
    libc::SYS_getppid,
    libc::SYS_getpriority,
    libc::SYS_getresgid,
    libc::SYS_getresuid,
    libc::SYS_getrlimit,
    libc::SYS_getrusage,
    libc::SYS_getuid,
    libc::SYS_ioctl,
    libc::SYS_lseek,
    libc::SYS_membarrier,
    libc::SYS_mlock,
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_msync,
    libc::SYS_munlock,
    libc::SYS_newfstatat,
    libc::SYS_pipe2,
    libc::SYS_ppoll,
    libc::SYS_prctl,
    libc::SYS_pread64,
    libc::SYS_preadv,
    libc::SYS_prlimit64,
    libc::SYS_pselect6,
    libc::SYS_read,
    libc::SYS_readlinkat,
    libc::SYS_readv,
    libc::SYS_rseq,
    libc::SYS_rt_sigpending,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_sched_get_priority_max,
    libc::SYS_sched_get_priority_min,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_getattr,
    libc::SYS_sched_getparam,
    libc::SYS_sched_getscheduler,
    libc::SYS_set_mempolicy,
    libc::SYS_set_robust_list,
    libc::SYS_set_tid_address,
    libc::SYS_statfs,
    libc::SYS_statx,
    libc::SYS_sysinfo,
    libc::SYS_timer_create,
    libc::SYS_timer_delete,
    libc::SYS_timer_settime,
    libc::SYS_times,
    libc::SYS_uname,
    libc::SYS_write,
    libc::SYS_writev,
];

/// Older names of the same, which this architecture has still.
#[cfg(target_arch = "x86_64")]
const OLDER_CALLS: &[i64] = &[
    libc::SYS_access,
    libc::SYS_arch_prctl,
    libc::SYS_dup2,
    libc::SYS_epoll_wait,
    libc::SYS_getpgrp,
    libc::SYS_lstat,
    libc::SYS_pipe,
    libc::SYS_poll,
    libc::SYS_readlink,
    libc::SYS_select,
    libc::SYS_stat,
    libc::SYS_time,
];
#[cfg(not(target_arch = "x86_64"))]
const OLDER_CALLS: &[i64] = &[];

fn program_calls() -> Result<BTreeMap<i64, Vec<SeccompRule>>, seccompiler::BackendError> {
    let calls = COMMON_CALLS.iter().chain(PROGRAM_CALLS).chain(OLDER_CALLS);
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = calls.map(|call| (*call, vec![])).collect();
    let writing = libc::O_ACCMODE | libc::O_CREAT | libc::O_TRUNC | libc::O_APPEND;
    rules.insert(libc::SYS_openat, vec![bits(2, writing, libc::O_RDONLY)?]);
    // Threads are started, processes are not. `clone3` hides its flags from a filter: the C library goes on to `clone`.
    rules.insert(libc::SYS_clone, vec![bits(0, libc::CLONE_THREAD, libc::CLONE_THREAD)?]);
    #[cfg(target_arch = "x86_64")]
    rules.insert(libc::SYS_open, vec![bits(1, writing, libc::O_RDONLY)?]);
    Ok(rules)
}
