/* Changing what is not ours: mounts, masks, system calls, pid 1. */
#include "hostile.h"

/* outside CANARY_DIR: the way up from a volume ends at our own root. */
void try_outside(int argc, char **argv) {
  (void)argc, (void)argv;
  int dir = open("/data", O_RDONLY | O_DIRECTORY);
  for (int i = 0; i < 64 && dir >= 0; i++) {
    int up = openat(dir, "..", O_RDONLY | O_DIRECTORY);
    close(dir);
    dir = up;
  }
  struct stat top, root;
  if (dir < 0 || fstat(dir, &top) != 0 || stat("/", &root) != 0) breach("cannot walk up");
  else if (top.st_dev == root.st_dev && top.st_ino == root.st_ino) held("the way up ends at the root");
  else breach("the way up ends elsewhere");
  must_fail(chroot("/data"), "chroot");
  must_fail(link("/proc/self/exe", "/tmp/linked"), "a hard link over mounts");
  must_fail(symlink("/data/trap", "/proc/trap"), "a link in /proc");
  unlink("/data/door");
  if (symlink("../../../../../../../..", "/data/door") == 0) held("a link out of the volume is made");
  must_fail(open("/sys/fs/cgroup/cgroup.procs", O_WRONLY), "its cgroup");
  must_fail(mkdir("/sys/fs/cgroup/mine", 0755), "a cgroup");
}

static void each_mount(void (*attempt)(const char *)) {
  FILE *mounts = fopen("/proc/self/mounts", "r");
  char device[512], where[512];
  while (mounts && fscanf(mounts, "%511s %511s %*[^\n]", device, where) == 2) attempt(where);
  if (mounts) fclose(mounts);
}

static void unmount(const char *where) {
  must_fail(umount2(where, MNT_DETACH), "umount of %s", where);
}

static void all_mounts(void) {
  must_fail(mount("none", "/tmp", "tmpfs", 0, NULL), "mount of a tmpfs");
  must_fail(mount("/data", "/tmp", NULL, MS_BIND, NULL), "a bind");
  must_fail(mount(NULL, "/proc/sys", NULL, MS_REMOUNT | MS_BIND, NULL), "/proc/sys writable again");
  must_fail(mount(NULL, "/", NULL, MS_REC | MS_SHARED, NULL), "shared mounts");
  must_fail(mount("proc", "/tmp", "proc", 0, NULL), "a new /proc");
  must_fail(mount("cgroup2", "/tmp", "cgroup2", 0, NULL), "a new cgroup tree");
  must_fail(mount("overlay", "/tmp", "overlay", 0, "lowerdir=/,upperdir=/data,workdir=/data"), "an overlay");
  must_fail(syscall(SYS_fsopen, "tmpfs", 0), "fsopen");
  must_fail(syscall(SYS_fspick, AT_FDCWD, "/", 0), "fspick");
  must_fail(syscall(SYS_open_tree, AT_FDCWD, "/", 1 /* OPEN_TREE_CLONE */), "open_tree");
  must_fail(syscall(SYS_move_mount, AT_FDCWD, "/proc", AT_FDCWD, "/tmp", 0), "move_mount");
  uint64_t attr[4] = {0, MOUNT_ATTR_RDONLY, 0, 0};
  must_fail(syscall(SYS_mount_setattr, AT_FDCWD, "/proc/sys", 0x8000, attr, sizeof attr), "mount_setattr");
  must_fail(syscall(SYS_pivot_root, ".", "."), "pivot_root");
  each_mount(unmount);
}

/* mounts: none is made, none is changed, none goes; not from a new user namespace either. */
void try_mounts(int argc, char **argv) {
  (void)argc, (void)argv;
  all_mounts();
  int flags[] = {CLONE_NEWUSER, CLONE_NEWUSER | CLONE_NEWNS, CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWNET, CLONE_NEWIPC, CLONE_NEWUTS, CLONE_NEWCGROUP};
  for (size_t i = 0; i < sizeof flags / sizeof *flags; i++) {
    pid_t child = fork();
    if (child == 0) {
      int made = unshare(flags[i]);
      must_fail(made, "unshare of %#x", flags[i]);
      fflush(stdout);
      _exit(0);
    }
    waitpid(child, NULL, 0);
  }
  long cloned = syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0);
  if (cloned == 0) _exit(0);
  must_fail(cloned, "clone of a user namespace");
  struct clone_args args = {.flags = CLONE_NEWUSER, .exit_signal = SIGCHLD};
  cloned = syscall(SYS_clone3, &args, sizeof args);
  if (cloned == 0) _exit(0);
  must_fail(cloned, "clone3 of a user namespace");
  int user = open("/proc/self/ns/user", O_RDONLY);
  must_fail(setns(user, 0), "setns");
  close(user);
}

static int writable_count, tried_count;

static int open_for_writing(const char *path, const struct stat *stat, int kind, struct FTW *ftw) {
  (void)ftw;
  /* Processes are our own, and the pseudo links lead to them. */
  if (strncmp(path, "/proc/", 6) == 0 && (path[6] >= '0' && path[6] <= '9')) return FTW_SKIP_SUBTREE;
  /* Everybody may ask to be woken at pressure; what is written is the question. */
  if (strncmp(path, "/proc/pressure/", 15) == 0) return FTW_CONTINUE;
  if (kind != FTW_F || !S_ISREG(stat->st_mode)) return FTW_CONTINUE;
  tried_count++;
  int fd = open(path, O_WRONLY | O_NONBLOCK);
  if (fd < 0) return FTW_CONTINUE;
  close(fd);
  writable_count++;
  breach("%s can be written", path);
  return FTW_CONTINUE;
}

/* masks PATH...: the masked paths are empty and stay covered; nothing else of /proc and /sys can be written. */
void try_masks(int argc, char **argv) {
  for (int i = 0; i < argc; i++) {
    struct stat stat;
    const char *path = argv[i];
    if (lstat(path, &stat) != 0) {
      held("%s is not there", path);
      continue;
    }
    if (S_ISDIR(stat.st_mode)) {
      DIR *dir = opendir(path);
      int entries = 0;
      while (dir && readdir(dir)) entries++;
      if (dir) closedir(dir);
      if (entries > 2) breach("%s has %d entries", path, entries - 2);
      else held("%s is empty", path);
      char inside[PATH_MAX];
      snprintf(inside, sizeof inside, "%s/mine", path);
      must_fail(open(inside, O_CREAT | O_WRONLY, 0600), "a file in %s", path);
    } else {
      char text[64];
      int fd = open(path, O_RDONLY | O_NONBLOCK);
      ssize_t size = fd < 0 ? 0 : read(fd, text, sizeof text);
      if (fd >= 0) close(fd);
      if (size > 0) breach("%s can be read", path);
      else held("%s says nothing", path);
    }
    must_fail(umount2(path, MNT_DETACH), "umount of %s", path);
    must_fail(mount("/data", path, NULL, MS_BIND, NULL), "a bind over %s", path);
  }
  /* Opened for writing, never written. */
  nftw("/proc", open_for_writing, 64, FTW_PHYS | FTW_ACTIONRETVAL);
  nftw("/sys", open_for_writing, 64, FTW_PHYS | FTW_ACTIONRETVAL);
  held("%d files of /proc and /sys tried, %d could be written", tried_count, writable_count);
}

#define call(name, ...) {#name, SYS_##name, {__VA_ARGS__}}
static const struct {
  const char *name;
  long number;
  long args[6];
} denied[] = {
    call(acct), call(add_key, (long)"user", (long)"x", (long)"y", 1, KEY_SPEC_PROCESS_KEYRING),
    call(bpf), call(clock_settime, CLOCK_REALTIME),
    call(delete_module, (long)"x"), call(finit_module, -1), call(init_module),
    call(kexec_load), call(kexec_file_load, -1, -1), call(keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, 1),
    call(mount), call(umount2), call(pivot_root), call(fsopen), call(fspick, -1), call(fsmount, -1),
    call(open_tree, -1), call(move_mount, -1, 0, -1), call(mount_setattr, -1), call(setns, -1),
    call(unshare, CLONE_NEWUSER), call(perf_event_open, 0, 0, -1, -1), call(ptrace, 0x7fff, -1),
    call(quotactl), call(reboot, 1, 2, 3), call(request_key, (long)"user", (long)"x"),
    call(swapon, (long)"/data/x"), call(swapoff, (long)"/data/x"), call(syslog, 3), call(userfaultfd),
    call(vhangup), call(sethostname), call(setdomainname), call(settimeofday), call(fanotify_init),
    call(io_uring_setup, 1), call(io_uring_enter, -1), call(io_uring_register, -1), call(chroot, (long)"/data"),
    call(open_by_handle_at, -1), call(process_madvise, -1), call(nfsservctl), call(lookup_dcookie),
    call(quotactl_fd, -1), call(move_pages, -1), call(migrate_pages, -1), call(personality, 0x0008000),
#ifdef __x86_64__
    call(iopl, 3), call(ioperm, 0, 1, 1), call(uselib), call(ustat), call(sysfs, 3), call(_sysctl),
    call(create_module), call(query_module), call(get_kernel_syms),
#endif
};

/* syscalls: each is refused at the door, with the same answer whatever its arguments. */
void try_syscalls(int argc, char **argv) {
  (void)argc, (void)argv;
  for (size_t i = 0; i < sizeof denied / sizeof *denied; i++) {
    const long *args = denied[i].args;
    errno = 0;
    long result = syscall(denied[i].number, args[0], args[1], args[2], args[3], args[4], args[5]);
    if (result == -1 && (errno == EPERM || errno == ENOSYS)) held("%s: %s", denied[i].name, strerror(errno));
    else if (denied[i].number == SYS_ptrace) held("ptrace is for our own");
    else breach("%s reached the kernel: %ld %s", denied[i].name, result, strerror(errno));
  }
  static const int families[] = {AF_PACKET, AF_VSOCK, AF_ALG, AF_BLUETOOTH, AF_CAN, AF_TIPC};
  for (size_t i = 0; i < sizeof families / sizeof *families; i++) must_fail(socket(families[i], SOCK_RAW, 0), "a socket of family %d", families[i]);
  must_fail(socket(AF_INET, SOCK_RAW, IPPROTO_ICMP), "a raw socket");
}

/* pid-one: a reaper as pid 1 is a program from outside, and not ours to touch. */
void try_pid_one(int argc, char **argv) {
  (void)argc, (void)argv;
  must_fail(open("/proc/1/mem", O_RDWR), "its memory");
  must_fail(open("/proc/1/exe", O_RDONLY), "its program");
  must_fail(open("/proc/1/exe", O_WRONLY), "its program, to write");
  must_fail(open("/proc/1/environ", O_RDONLY) < 0 ? -1 : 0, "its environment");
  must_fail(opendir("/proc/1/fd") ? 0 : -1, "its descriptors");
  must_fail(opendir("/proc/1/map_files") ? 0 : -1, "its mappings");
  must_fail(open("/proc/1/root/etc/hostname", O_RDONLY), "its root");
  must_fail(syscall(SYS_ptrace, PTRACE_SEIZE, 1, 0, 0), "tracing it");
  char byte;
  struct iovec here = {&byte, 1}, there = {(void *)0x400000, 1};
  must_fail(process_vm_readv(1, &here, 1, &there, 1, 0), "reading it");
  must_fail(process_vm_writev(1, &here, 1, &there, 1, 0), "writing it");
  int pidfd = (int)syscall(SYS_pidfd_open, 1, 0);
  must_fail(syscall(SYS_pidfd_getfd, pidfd, 0, 0), "a descriptor of it");
  kill(1, SIGKILL);
  kill(1, SIGSTOP);
  held("it lives");
}
