//! seccomp: system calls that a proxy never makes fail.
//!
//! This is a list of what is denied and not of what is allowed. Which calls a program makes is
//! decided by its C library, the resolver's plugins and the kernel's version, and changes under a
//! program that was right when it was built: a call forgotten in a list of allowed ones would be
//! a failure in somebody's production, at the first rare path. A list of denied ones can only
//! forget to protect. The same caution is why they fail with EPERM, where an attacker could be
//! killed: a legitimate call that was overlooked gets an error that programs know how to handle.
//!
//! What is left out of the list is cheap: the kernel remembers for each call that every filter
//! allows it whatever its arguments, and runs none.

use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch, apply_filter, sock_filter,
};

/// Other programs; other processes' memory and files; code for the kernel; the machine; the tree
/// of files and other namespaces; another identity; ways around a filter like this one.
const DENIED: &[i64] = &[
    // Another program in our place.
    libc::SYS_execve,
    libc::SYS_execveat,
    // Memory and files of other processes.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    // Code in the kernel, and views into it.
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_syslog,
    // The machine.
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    // Another tree of files.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_mount_setattr,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_open_by_handle_at,
    libc::SYS_name_to_handle_at,
    libc::SYS_fanotify_init,
    libc::SYS_mknodat,
    // Other namespaces.
    libc::SYS_setns,
    libc::SYS_unshare,
    // Another identity.
    libc::SYS_setuid,
    libc::SYS_setgid,
    libc::SYS_setreuid,
    libc::SYS_setregid,
    libc::SYS_setresuid,
    libc::SYS_setresgid,
    libc::SYS_setgroups,
    libc::SYS_setfsuid,
    libc::SYS_setfsgid,
    libc::SYS_capset,
    // The kernel's store of keys.
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    // System calls that no filter sees, and another behaviour of those that it sees.
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_personality,
];

/// Those that only this architecture has.
#[cfg(target_arch = "x86_64")]
const DENIED_HERE: &[i64] = &[
    libc::SYS_kexec_file_load,
    libc::SYS_fork,
    libc::SYS_vfork,
    libc::SYS_mknod,
    libc::SYS_iopl,
    libc::SYS_ioperm,
    libc::SYS_modify_ldt,
    libc::SYS_uselib,
];
#[cfg(not(target_arch = "x86_64"))]
const DENIED_HERE: &[i64] = &[];

/// Restricts this thread and those that it will start.
pub(super) fn restrict() -> Result<(), seccompiler::Error> {
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    let programs = [foreign_numbers(), no_clone3(arch)?, denied(arch)?];
    // The last one first would do as well: all of them are asked, and the strictest wins.
    programs
        .iter()
        .try_for_each(|program| apply_filter(program))
}

fn denied(arch: TargetArch) -> Result<BpfProgram, BackendError> {
    // A process makes threads and never another process.
    let is_no_thread = SeccompCondition::new(
        0,
        SeccompCmpArgLen::Qword,
        SeccompCmpOp::MaskedEq(THREAD),
        0,
    )?;
    let no_process = (libc::SYS_clone, vec![SeccompRule::new(vec![is_no_thread])?]);
    let always = DENIED.iter().chain(DENIED_HERE).map(|call| (*call, vec![]));
    let rules = always.chain([no_process]).collect();
    filter(rules, libc::EPERM, arch)
}

/// `CLONE_THREAD`.
const THREAD: u64 = 0x0001_0000;

/// The arguments of `clone3` are in memory, where no filter can look. C libraries use `clone` where
/// the kernel does not know it.
fn no_clone3(arch: TargetArch) -> Result<BpfProgram, BackendError> {
    let rules = [(libc::SYS_clone3, vec![])].into_iter().collect();
    filter(rules, libc::ENOSYS, arch)
}

type Rules = std::collections::BTreeMap<i64, Vec<SeccompRule>>;

fn filter(rules: Rules, errno: i32, arch: TargetArch) -> Result<BpfProgram, BackendError> {
    let errno = SeccompAction::Errno(errno.unsigned_abs());
    SeccompFilter::new(rules, SeccompAction::Allow, errno, arch)?.try_into()
}

/// The x32 interface has the same calls under other numbers (from `0x4000_0000` on), where the list
/// would not find them. As on a kernel without it: ENOSYS.
fn foreign_numbers() -> BpfProgram {
    const LOAD_NUMBER: u16 = 0x20;
    const JUMP_IF_NOT_BELOW: u16 = 0x35;
    const RETURN: u16 = 0x06;
    let step = |code, jt, k| sock_filter { code, jt, jf: 0, k };
    let no_such_call = libc::SECCOMP_RET_ERRNO | libc::ENOSYS.unsigned_abs();
    vec![
        step(LOAD_NUMBER, 0, 0),
        step(JUMP_IF_NOT_BELOW, 1, 0x4000_0000),
        step(RETURN, 0, libc::SECCOMP_RET_ALLOW),
        step(RETURN, 0, no_such_call),
    ]
}
