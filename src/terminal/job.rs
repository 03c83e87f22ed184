//! Stopping, and whether there is a shell that a stopped program can be woken by.

use std::{fs, io};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getpgid, getpgrp, getppid, getsid};

/// Whether a shell with job control waits outside of our process group, in our session. Without one a stop is for
/// ever: as a session leader (`ssh -t host dbtriage`), under a script, and when the shell has gone.
pub fn has_shell() -> bool {
    let (group, Ok(session)) = (getpgrp(), getsid(None)) else { return false };
    let mut ancestor = Some(getppid());
    // A wrapper such as sudo stands in our own group, and stops with us.
    while let Some(pid) = ancestor.filter(|pid| getpgid(Some(*pid)) == Ok(group)) {
        ancestor = parent(pid);
    }
    ancestor.is_some_and(|pid| getsid(Some(pid)) == Ok(session))
}

/// Stops this program and whatever stands in its group; execution goes on here after SIGCONT.
pub fn stop() -> io::Result<()> {
    Ok(kill(Pid::from_raw(0), Signal::SIGSTOP)?)
}

fn parent(pid: Pid) -> Option<Pid> {
    // After the program's name, which may hold anything and ends with a parenthesis: state, parent.
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let parent: i32 = text.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()?;
    (parent > 1).then(|| Pid::from_raw(parent))
}
