/* A program that means harm, for tests/services/hostile_program.rs. Every attempt prints one line: `held: ...` when it was
 * contained, `BREACH: ...` when it was not. */
#ifndef HOSTILE_H
#define HOSTILE_H
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <grp.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/keyctl.h>
#include <linux/perf_event.h>
#include <linux/sched.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif

#define held(...) (printf("held: "), printf(__VA_ARGS__), printf("\n"))
#define breach(...) (printf("BREACH: "), printf(__VA_ARGS__), printf("\n"))
/* An attempt that must fail: `result` is what the call returned. */
#define must_fail(result, ...)                                                                                         \
  do {                                                                                                                 \
    errno = 0;                                                                                                         \
    long result_ = (long)(result);                                                                                     \
    int errno_ = errno;                                                                                                \
    printf(result_ == -1 ? "held: " : "BREACH: ");                                                                     \
    printf(__VA_ARGS__);                                                                                               \
    printf(result_ == -1 ? ": %s\n" : "%.0s\n", strerror(errno_));                                                     \
  } while (0)

extern char first_look[4096];      /* what `serve` found open when it began */
extern int lent[16], lent_count;   /* connections given to us to abuse */
extern int listener;               /* the published socket */
double now(void);
struct sockaddr_in loopback(int port);

/* One function for each verb; args are what followed it. */
void look_files(int argc, char **argv);
void look_processes(int argc, char **argv);
void look_descriptors(char *into, size_t size);
void look_privileges(int argc, char **argv);
void look_entering(int argc, char **argv);
void try_outside(int argc, char **argv);
void try_mounts(int argc, char **argv);
void try_masks(int argc, char **argv);
void try_syscalls(int argc, char **argv);
void try_pid_one(int argc, char **argv);
void net_fresh(int argc, char **argv);
void net_accepted_connect(int argc, char **argv);
void net_accepted_listen(int argc, char **argv);
void net_listener_connect(int argc, char **argv);
void net_loopback(int argc, char **argv);
void net_give(int argc, char **argv);
void net_take(int argc, char **argv);
void net_race(int argc, char **argv);
void net_race_connect(int argc, char **argv);
void eat_processes(int argc, char **argv);
void eat_memory(int argc, char **argv);
void eat_descriptors(int argc, char **argv);
void eat_disk(int argc, char **argv);
void eat_run_time_files(int argc, char **argv);
void be_rude(int argc, char **argv);
void be_many(int argc, char **argv);
void swap_links(int argc, char **argv);
#endif
