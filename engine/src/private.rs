//! Keeps what the process writes to its user.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::fs::Mode;
use rustix::process::{Resource, Rlimit, setrlimit, umask};

/// Rights of everybody but the owner.
const OTHERS: u32 = 0o077;

/// Makes new files private to their owner, whatever the umask was, and turns core dumps off: memory holds keys, media
/// and what people wrote. To be called before the first file is made. Where a program takes the dumps in place of a file
/// (`core_pattern`), it is told the limit and keeps none.
pub fn begin() {
    umask(Mode::from_raw_mode(OTHERS));
    // A limit can always be lowered.
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
}

/// Takes the data directory away from others, as older programs left it. What it holds is reached through it alone.
pub fn close(folder: &Path) {
    if let Err(error) = try_close(folder) {
        tracing::warn!(
            folder = %folder.display(), %error,
            "others may read the data directory, and it cannot be taken from them: run `chmod -R go= ` on it as its owner"
        );
    }
}

fn try_close(folder: &Path) -> io::Result<()> {
    let mode = fs::metadata(folder)?.permissions().mode();
    if mode & OTHERS == 0 {
        return Ok(());
    }
    fs::set_permissions(folder, Permissions::from_mode(mode & 0o7700))?;
    tracing::info!(folder = %folder.display(), "the data directory is its owner's alone now");
    Ok(())
}
