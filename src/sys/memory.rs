//! Giving memory back that a process needed once: a supervisor waits for days after some busy milliseconds.

use std::fs;
use std::io;

/// A mapping of /proc/self/smaps (proc_pid_smaps(5)) that holds nothing but clean pages of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Clean {
    start: usize,
    end: usize,
}

/// The mappings of files that cannot be written and of which no page was changed, by a debugger or the dynamic linker for instance.
fn clean_mappings(smaps: &str) -> Vec<Clean> {
    let mut found = Vec::new();
    let mut candidate = None;
    for line in smaps.lines() {
        let mut words = line.split_ascii_whitespace();
        let Some(first) = words.next() else { continue };
        if let Some((start, end)) = first.split_once('-') {
            let of = |text| usize::from_str_radix(text, 16).ok();
            let readable_only =
                words.next().is_some_and(|access| access.starts_with('r') && access.ends_with('p') && !access.contains('w'));
            // offset, device, inode, then the path.
            let is_file = words.nth(3).is_some_and(|path| path.starts_with('/'));
            candidate = match (of(start), of(end)) {
                (Some(start), Some(end)) if start < end && readable_only && is_file => Some(Clean { start, end }),
                _ => None,
            };
        } else if first == "Anonymous:"
            && let Some(mapping) = candidate.take()
            && words.next() == Some("0")
        {
            found.push(mapping);
        }
    }
    found
}

/// Bytes below the caller's frame that stay: what the calls in hand use, the red zone, a signal's frame.
const STACK_MARGIN: usize = 12 << 10;

/// The part of the main thread's stack that no frame uses, for a caller at `frame` on it and pages of `page` bytes.
fn unused_stack(smaps: &str, frame: usize, page: usize) -> Option<Clean> {
    let line = smaps.lines().find(|line| line.ends_with(" [stack]"))?;
    let (start, end) = line.split_once(' ')?.0.split_once('-')?;
    let start = usize::from_str_radix(start, 16).ok()?;
    let in_use = (start..usize::from_str_radix(end, 16).ok()?).contains(&frame);
    let below = frame.checked_sub(STACK_MARGIN)?;
    // Rounded down: the kernel rounds a length up, to where frames are.
    let end = below - below.checked_rem(page)?;
    (in_use && start < end).then_some(Clean { start, end })
}

/// Gives back what can be had again at no loss: free parts of the heap, the deep end of the stack, and pages of programs and
/// libraries, which come back from the page cache when they are next executed.
///
/// # Errors
/// Those of reading /proc/self/smaps and of madvise(2). Nothing is lost then.
pub fn release() -> io::Result<()> {
    let smaps = fs::read_to_string("/proc/self/smaps")?;
    let frame = std::ptr::from_ref(&smaps) as usize;
    if let Some(unused) = page_size().and_then(|page| unused_stack(&smaps, frame, page)) {
        // SAFETY: the stack grows down and the range ends well below this function's own frame (`frame` is a local of it), so no
        // frame lies in it: neither a caller's, which are above, nor that of the call below, which the margin keeps. The next
        // access gets zeroes, and nothing reads below the stack pointer what it has not written.
        unsafe { libc::madvise(unused.start as *mut libc::c_void, unused.end - unused.start, libc::MADV_DONTNEED) };
    }
    for mapping in clean_mappings(&smaps) {
        let length = mapping.end - mapping.start;
        // SAFETY: MADV_DONTNEED drops pages of a private mapping; the next access reads the file again. The mapping cannot be
        // written and has no page of its own (`Anonymous: 0`), so the file's content is what was there. It cannot have been
        // replaced by another one since, as this process maps nothing in between: it has one thread here, and if it had more,
        // loading a library would map elsewhere.
        if unsafe { libc::madvise(mapping.start as *mut libc::c_void, length, libc::MADV_DONTNEED) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    drop(smaps);
    trim_heap();
    Ok(())
}

fn page_size() -> Option<usize> {
    use nix::unistd::{SysconfVar, sysconf};
    usize::try_from(sysconf(SysconfVar::PAGE_SIZE).ok()??).ok()
}

#[cfg(target_env = "gnu")]
fn trim_heap() {
    // SAFETY: malloc_trim(3) takes a number and moves nothing that is in use.
    unsafe { libc::malloc_trim(0) };
}

/// Other C libraries give free memory back by themselves.
#[cfg(not(target_env = "gnu"))]
fn trim_heap() {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_unchanged_pages_of_files_are_given_back() {
        let smaps = "00400000-00800000 r-xp 00000000 fe:00 17 /usr/bin/a b\nSize: 4096 kB\nAnonymous:            0 kB\n\
                     00800000-00900000 r--p 00400000 fe:00 17 /usr/bin/a b\nAnonymous:           16 kB\n\
                     00900000-00a00000 rw-p 00500000 fe:00 17 /usr/bin/a b\nAnonymous:            0 kB\n\
                     00a00000-00b00000 r--s 00000000 fe:00 18 /shared\nAnonymous:            0 kB\n\
                     7f0000000000-7f0000001000 r--p 00000000 00:00 0\nAnonymous:            0 kB\n\
                     7f0000001000-7f0000002000 r-xp 00000000 00:00 0 [vdso]\nAnonymous:            0 kB\n\
                     nonsense\n-\nAnonymous:            0 kB\n";
        assert_eq!(clean_mappings(smaps), [Clean { start: 0x40_0000, end: 0x80_0000 }]);
    }

    #[test]
    fn the_stack_in_use_stays() {
        let smaps = "7ff000000000-7ff000100000 rw-p 00000000 00:00 0                          [stack]\nSize: 1024 kB\n";
        let frame = 0x7ff0_000f_8123;
        assert_eq!(unused_stack(smaps, frame, 4096), Some(Clean { start: 0x7ff0_0000_0000, end: 0x7ff0_000f_5000 }));
        assert_eq!(unused_stack(smaps, 0x7ff0_0000_3000, 4096), None, "hardly any is in use");
        assert_eq!(unused_stack(smaps, 0x7ff0_0010_0000, 4096), None, "another thread's stack");
        assert_eq!(unused_stack("", frame, 4096), None);
        let end = unused_stack(smaps, frame, 65536).unwrap().end;
        assert_eq!(end, 0x7ff0_000f_0000, "pages of 64 KiB");
    }

    #[test]
    fn a_process_goes_on_after_it() {
        // Everything of the program is touched, so that there is something to give back.
        let resident = || {
            let status = fs::read_to_string("/proc/self/status").unwrap();
            let line = status.lines().find_map(|line| line.strip_prefix("RssFile:")).unwrap();
            line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap()
        };
        let before = resident();
        release().unwrap();
        let after = resident();
        assert!(after < before, "{before} KiB of files before, {after} after");
    }
}
