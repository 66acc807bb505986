/* Using up what there is, within bounds that this machine bears, and bad manners. */
#include "hostile.h"

/* eat-processes MOST: daemons that left session and parent, and hear no signal. They stay. */
void eat_processes(int argc, char **argv) {
  long most = atol(argv[argc - 1]), made = 0;
  for (; made < most; made++) {
    pid_t child = fork();
    if (child < 0) break;
    if (child > 0) continue;
    setsid();
    if (made % 2 && fork() > 0) _exit(0);
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, NULL);
    close(1);
    for (;;) pause();
  }
  held("%ld processes made", made);
}

/* eat-memory MIB: touched, and let go. */
void eat_memory(int argc, char **argv) {
  size_t size = (size_t)atol(argv[argc - 1]) << 20;
  char *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) {
    held("no %zu bytes: %s", size, strerror(errno));
    return;
  }
  memset(memory, 1, size);
  held("%zu bytes touched", size);
}

/* eat-descriptors MOST */
void eat_descriptors(int argc, char **argv) {
  long most = atol(argv[argc - 1]), made = 0;
  while (made < most && open("/dev/null", O_RDONLY) >= 0) made++;
  held("%ld descriptors: %s", made, made < most ? strerror(errno) : "enough");
}

static long fill(const char *path, long most) {
  int fd = open(path, O_WRONLY | O_CREAT | O_APPEND, 0600);
  static char block[1 << 16];
  long written = 0;
  for (ssize_t size; fd >= 0 && written < most && (size = write(fd, block, sizeof block)) > 0;) written += size;
  if (fd >= 0) close(fd);
  return written;
}

/* eat-disk MOST: the volume, until it is full. */
void eat_disk(int argc, char **argv) {
  long most = atol(argv[argc - 1]), written = fill("/data/fill", most);
  held("%ld bytes written: %s", written, written < most ? strerror(errno) : "enough");
}

/* eat-run-time-files: files that lie in the user's run-time directory, whose space everything of that user shares. */
void eat_run_time_files(int argc, char **argv) {
  (void)argc, (void)argv;
  static const char *const files[] = {"/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/etc/passwd", "/etc/group", "/run/secrets/x"};
  for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
    FILE *mounts = fopen("/proc/self/mountinfo", "r");
    char line[1024];
    int separate = 0;
    while (mounts && fgets(line, sizeof line, mounts)) separate |= strstr(line, files[i]) != NULL || (i == 5 && strstr(line, " /run/secrets ") != NULL);
    if (mounts) fclose(mounts);
    if (!separate) {
      held("%s is no file of the host", files[i]);
      continue;
    }
    long written = fill(files[i], 8 << 20);
    if (written > 0) breach("%ld bytes written to %s, in the host's run-time directory", written, files[i]);
    else held("%s: %s", files[i], strerror(errno));
  }
}

/* rude: shuts the streams that it shares with its supervisor, signals whoever can be named. */
void be_rude(int argc, char **argv) {
  (void)argc, (void)argv;
  shutdown(2, SHUT_RDWR);
  fcntl(2, F_SETFL, O_NONBLOCK | O_ASYNC);
  fcntl(2, F_SETOWN, getpid());
  fcntl(2, F_SETSIG, SIGKILL);
  signal(SIGCONT, SIG_IGN);
  kill(-1, SIGCONT);
  kill(0, SIGCONT);
  kill(getppid(), SIGCONT);
  held("it was rude");
}

/* many: daemons in every manner that might outlive a stop. */
void be_many(int argc, char **argv) {
  (void)argc, (void)argv;
  for (int i = 0; i < 40; i++) {
    if (fork() != 0) continue;
    setsid();
    if (fork() > 0) _exit(0);
    close(0), close(1), close(2);
    prctl(PR_SET_NAME, i % 2 ? "hostile" : "innocent");
    for (int signal_ = 1; signal_ < 65; signal_++) signal(signal_, SIG_IGN);
    if (i % 4 == 0) {
      /* Stopped, or waiting for a child that is stopped. */
      if (fork() == 0) raise(SIGSTOP);
    }
    for (;;) pause();
  }
  usleep(200000);
  held("40 daemons");
}

/* swap-links SECONDS TRAP: a directory of the shared volume turns into a link that leads out and back, all the time. */
void swap_links(int argc, char **argv) {
  double end = now() + atof(argv[0]);
  char out[PATH_MAX];
  snprintf(out, sizeof out, "../../../../../../../../../..%s", argv[argc - 1]);
  long swaps = 0;
  mkdir("/data/shared/inner", 0755);
  unlink("/data/shared/link");
  symlink(out, "/data/shared/link");
  while (now() < end) {
    syscall(SYS_renameat2, AT_FDCWD, "/data/shared/inner", AT_FDCWD, "/data/shared/link", 2 /* RENAME_EXCHANGE */);
    swaps++;
    if (swaps % 16 == 0) usleep(200);
  }
  held("%ld swaps", swaps);
}
