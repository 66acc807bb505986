/* What can be seen, and by whom we are. */
#include "hostile.h"

static const char *canary;
static int files_seen;

static int look_into(const char *path, const struct stat *stat, int kind, struct FTW *ftw) {
  (void)ftw;
  if (strncmp(path, "/proc", 5) == 0 || strncmp(path, "/sys", 4) == 0) return FTW_SKIP_SUBTREE;
  if (kind != FTW_F || !S_ISREG(stat->st_mode)) return FTW_CONTINUE;
  int fd = open(path, O_RDONLY | O_NONBLOCK);
  if (fd < 0) return FTW_CONTINUE;
  static char text[1 << 20];
  ssize_t size = read(fd, text, sizeof text);
  close(fd);
  files_seen++;
  if (size > 0 && memmem(text, (size_t)size, canary, strlen(canary))) breach("%s has the canary", path);
  return FTW_CONTINUE;
}

/* files CANARY PATH...: no file in sight has the canary, and none of the host's paths exists. */
void look_files(int argc, char **argv) {
  /* Backwards in the argument, so that this program's own memory and file do not have it. */
  char *word = strdup(argv[0]);
  for (size_t i = 0, n = strlen(word); i < n / 2; i++) {
    char c = word[i];
    word[i] = word[n - 1 - i];
    word[n - 1 - i] = c;
  }
  canary = word;
  nftw("/", look_into, 64, FTW_PHYS | FTW_ACTIONRETVAL);
  held("%d files looked at", files_seen);
  for (int i = 1; i < argc; i++) must_fail(access(argv[i], F_OK), "the host's %s", argv[i]);
}

/* processes: every process that answers is one of this container, whose pids are few and begin at 1. */
void look_processes(int argc, char **argv) {
  (void)argc, (void)argv;
  DIR *proc = opendir("/proc");
  int listed = 0, answering = 0;
  for (struct dirent *entry; (entry = readdir(proc));) {
    int pid = atoi(entry->d_name);
    if (pid <= 0) continue;
    listed++;
    char path[64], comm[64] = "";
    snprintf(path, sizeof path, "/proc/%d/comm", pid);
    int fd = open(path, O_RDONLY);
    ssize_t size = read(fd, comm, sizeof comm - 1);
    close(fd);
    /* Pid 1 may be the reaper, which `pid-one` tries to touch. */
    if (size > 0 && strncmp(comm, "hostile", 7) != 0 && pid > 1) breach("process %d is %s", pid, comm);
  }
  closedir(proc);
  for (int pid = 1; pid < 4194304; pid++) answering += kill(pid, 0) == 0 || errno == EPERM;
  /* A reaper as pid 1 may be hidden from us. */
  if (access("/proc/1", F_OK) != 0) listed++;
  if (answering > listed) breach("%d processes answer, %d are listed", answering, listed);
  else held("%d processes listed, %d answer", listed, answering);
  if (getppid() != 0 && getppid() != 1 && kill(getppid(), 0) != 0) breach("a parent outside");
  must_fail(syscall(SYS_pidfd_open, 4000000, 0), "a process outside by its number");
}

static void line_of(const char *name, char *into, size_t size) {
  FILE *status = fopen("/proc/self/status", "r");
  char line[256];
  into[0] = 0;
  while (status && fgets(line, sizeof line, status)) {
    if (strncmp(line, name, strlen(name)) == 0 && line[strlen(name)] == ':') {
      snprintf(into, size, "%s", line + strlen(name) + 2);
      into[strcspn(into, "\n")] = 0;
    }
  }
  if (status) fclose(status);
}

/* privileges: none held, none to be had. */
void look_privileges(int argc, char **argv) {
  (void)argc, (void)argv;
  static const char *const sets[] = {"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"};
  char value[256];
  for (size_t i = 0; i < sizeof sets / sizeof *sets; i++) {
    line_of(sets[i], value, sizeof value);
    if (strcmp(value, "0000000000000000") == 0) held("%s is empty", sets[i]);
    else breach("%s is %s", sets[i], value);
  }
  line_of("NoNewPrivs", value, sizeof value);
  if (strcmp(value, "1") == 0) held("no new privileges");
  else breach("NoNewPrivs is %s", value);
  line_of("Seccomp", value, sizeof value);
  if (strcmp(value, "2") == 0) held("a filter");
  else breach("Seccomp is %s", value);
  if (prctl(PR_GET_SECUREBITS) < 0) held("securebits unreadable");
  uid_t own = getuid();
  must_fail(setresuid(own + 1, own + 1, own + 1), "another uid");
  if (own != 0) must_fail(setuid(0), "root's uid");
  gid_t group = 12345;
  must_fail(setgroups(1, &group), "another group");
  struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
  struct __user_cap_data_struct data[2] = {{.effective = ~0U, .permitted = ~0U}, {.effective = ~0U, .permitted = ~0U}};
  must_fail(syscall(SYS_capset, &header, data), "all capabilities");
  must_fail(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_SYS_ADMIN, 0, 0), "an ambient capability");
  must_fail(prctl(PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0), "privileges again");
  must_fail(sethostname("mine", 4), "the host name");
  must_fail(mknod("/tmp/disk", S_IFBLK | 0600, makedev(8, 0)), "a block device");
  must_fail(mknod("/tmp/mem", S_IFCHR | 0600, makedev(1, 1)), "the memory device");
  static const char *const devices[] = {"/dev/mem", "/dev/kmsg", "/dev/fuse", "/dev/net/tun", "/dev/kvm", "/dev/sda", "/dev/vda", "/dev/loop0"};
  for (size_t i = 0; i < sizeof devices / sizeof *devices; i++) must_fail(open(devices[i], O_RDONLY | O_NONBLOCK), "%s", devices[i]);
  struct timeval time = {.tv_sec = 1};
  must_fail(settimeofday(&time, NULL), "the clock");
}

/* Which descriptors are open, and 0 to 2 are harmless. */
void look_descriptors(char *into, size_t size) {
  size_t used = 0;
  int extra = 0;
  for (int fd = 0; fd < 4096 && used < size - 300; fd++) {
    if (fcntl(fd, F_GETFD) < 0) continue;
    char path[64], target[200] = "";
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(path, target, sizeof target - 1);
    if (length < 0) strcpy(target, "?");
    if (fd > 2) extra++;
    used += (size_t)snprintf(into + used, size - used, fd > 2 ? "BREACH: descriptor %d is %s\n" : "descriptor %d is %s\n", fd, target);
  }
  used += (size_t)snprintf(into + used, size - used, "held: %d descriptors beyond the three\ndone\n", extra);
}

/* The program of process `pid` is one from outside. */
static int is_foreign(int pid) {
  char path[64], target[PATH_MAX] = "";
  snprintf(path, sizeof path, "/proc/%d/exe", pid);
  ssize_t length = readlink(path, target, sizeof target - 1);
  return length > 0 && strstr(target, "steading") != NULL;
}

/* entering SECONDS: whoever enters this container is looked at all the time, for what it brings along. */
void look_entering(int argc, char **argv) {
  double end = now() + atof(argc > 0 ? argv[0] : "5");
  int newcomers = 0, last = getpid();
  while (now() < end) {
    /* By their numbers, which answer to a signal even where /proc hides them. */
    for (int pid = last > 64 ? last - 64 : 2; pid < last + 64; pid++) {
      if (pid == getpid() || kill(pid, 0) != 0) continue;
      char path[64], link[PATH_MAX];
      static const char *const names[] = {"exe", "mem", "fd", "root", "cwd", "environ", "ns/net", "ns/mnt", "map_files", "syscall", "stack"};
      for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(path, sizeof path, "/proc/%d/%s", pid, names[i]);
        int how = i == 0 ? O_RDONLY : i == 1 ? O_RDWR : O_RDONLY;
        int fd = open(path, how | O_NONBLOCK);
        if (fd < 0) continue;
        /* Still the program from outside after the open: what was opened is its own. */
        if (is_foreign(pid)) breach("%s of a process that enters was opened", names[i]);
        close(fd);
      }
      snprintf(path, sizeof path, "/proc/%d/exe", pid);
      int program = open(path, O_PATH);
      if (program >= 0) {
        char own[64];
        snprintf(own, sizeof own, "/proc/self/fd/%d", program);
        ssize_t length = readlink(own, link, sizeof link - 1);
        link[length > 0 ? length : 0] = 0;
        if (strstr(link, "steading")) {
          /* Held until nothing executes it any more, then written over: CVE-2019-5736. */
          breach("the program `%s` is held", link);
          for (int i = 0; i < 200; i++) {
            int writable = open(own, O_WRONLY);
            if (writable >= 0) {
              breach("the program `%s` can be written", link);
              close(writable);
              break;
            }
            usleep(5000);
          }
        }
        close(program);
      }
      if (is_foreign(pid) && syscall(SYS_ptrace, PTRACE_SEIZE, pid, 0, 0) == 0) {
        breach("a process that enters is traced");
        syscall(SYS_ptrace, PTRACE_DETACH, pid, 0, 0);
      }
      if (pid > last) newcomers++, last = pid;
    }
  }
  held("%d newcomers looked at", newcomers);
}
