#include "hostile.h"

char first_look[4096];
int lent[16], lent_count, listener = -1;

static const struct {
  const char *name;
  void (*run)(int, char **);
} verbs[] = {
    {"files", look_files},
    {"processes", look_processes},
    {"privileges", look_privileges},
    {"entering", look_entering},
    {"outside", try_outside},
    {"mounts", try_mounts},
    {"masks", try_masks},
    {"syscalls", try_syscalls},
    {"pid-one", try_pid_one},
    {"fresh", net_fresh},
    {"accepted-connect", net_accepted_connect},
    {"accepted-listen", net_accepted_listen},
    {"listener-connect", net_listener_connect},
    {"loopback", net_loopback},
    {"give", net_give},
    {"take", net_take},
    {"race", net_race},
    {"race-connect", net_race_connect},
    {"eat-processes", eat_processes},
    {"eat-memory", eat_memory},
    {"eat-descriptors", eat_descriptors},
    {"eat-disk", eat_disk},
    {"eat-run-time-files", eat_run_time_files},
    {"rude", be_rude},
    {"many", be_many},
    {"swap-links", swap_links},
};

double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

struct sockaddr_in loopback(int port) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

static void run(int argc, char **argv) {
  if (argc > 0 && strcmp(argv[0], "descriptors") == 0) {
    char text[4096] = "";
    if (first_look[0] == 0) look_descriptors(text, sizeof text);
    fputs(first_look[0] ? first_look : text, stdout);
    return;
  }
  for (size_t i = 0; argc > 0 && i < sizeof verbs / sizeof *verbs; i++) {
    if (strcmp(verbs[i].name, argv[0]) == 0) {
      verbs[i].run(argc - 1, argv + 1);
      printf("done\n");
      return;
    }
  }
  printf("no such verb\n");
}

/* One line from a client, and the verb in it by a child that writes to the client. */
static void serve_one(int client) {
  char line[4096];
  size_t length = 0;
  while (length < sizeof line - 1 && read(client, line + length, 1) == 1 && line[length] != '\n') length++;
  line[length] = 0;
  if (strcmp(line, "lend") == 0 && lent_count < 16) {
    lent[lent_count++] = client;
    return;
  }
  if (fork() == 0) {
    char *argv[64];
    int argc = 0;
    for (char *word = strtok(line, " "); word && argc < 64; word = strtok(NULL, " ")) argv[argc++] = word;
    dup2(client, 1);
    close(client);
    setvbuf(stdout, NULL, _IOLBF, 0);
    run(argc, argv);
    fflush(stdout);
    _exit(0);
  }
  close(client);
}

static void bomb(int signal) {
  (void)signal;
  /* Chains of processes that each live for 20 ms and leave a successor: never many, never gone. */
  for (int i = 0; i < 16; i++) {
    if (fork() == 0) {
      for (;;) {
        usleep(20000);
        if (fork() > 0) _exit(0);
        setsid();
      }
    }
  }
}

static int serve(const char *manner) {
  look_descriptors(first_look, sizeof first_look);
  signal(SIGCHLD, SIG_IGN);
  if (strcmp(manner, "deaf") == 0) {
    /* Ignored, blocked and handled: whichever of them is looked at, no signal but SIGKILL ends it. */
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, NULL);
    for (int i = 1; i < 32; i++) {
      if (i != SIGCHLD) signal(i, SIG_IGN);
    }
  } else if (strcmp(manner, "bomb") == 0) {
    signal(SIGTERM, bomb);
  } else {
    signal(SIGTERM, _exit);
  }
  listener = socket(AF_INET, SOCK_STREAM, 0);
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(8080)};
  if (bind(listener, (struct sockaddr *)&address, sizeof address) != 0 || listen(listener, 100) != 0) {
    perror("cannot listen");
    return 1;
  }
  for (;;) {
    int client = accept(listener, NULL, NULL);
    if (client >= 0) serve_one(client);
    else if (errno != EINTR) usleep(10000);
  }
}

int main(int argc, char **argv) {
  if (argc > 1 && strcmp(argv[1], "serve") == 0) return serve(argc > 2 ? argv[2] : "");
  run(argc - 1, argv + 1);
  return 0;
}
