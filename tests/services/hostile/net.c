/* The host's network, by the sockets that were handed over. */
#include "hostile.h"

static uint64_t namespace_of(int fd) {
  uint64_t cookie = 0;
  socklen_t size = sizeof cookie;
  return getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &size) == 0 ? cookie : 0;
}

static uint64_t own_namespace(void) {
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  uint64_t cookie = namespace_of(fd);
  close(fd);
  return cookie;
}

/* Whether `fd` gets through to the host's port within a second and hears the canary's greeting. */
static int reaches(int fd, int port) {
  struct sockaddr_in address = loopback(port);
  fcntl(fd, F_SETFL, O_NONBLOCK);
  /* EINPROGRESS: it connects, though nothing was sent yet. connect() would be refused then, and hide that. */
  int begun = sendto(fd, "x", 1, MSG_FASTOPEN | MSG_NOSIGNAL, (struct sockaddr *)&address, sizeof address) > 0 || errno == EINPROGRESS;
  if (begun) printf("by the back door\n");
  else if (connect(fd, (struct sockaddr *)&address, sizeof address) != 0 && errno != EINPROGRESS) return 0;
  struct pollfd wait = {.fd = fd, .events = POLLIN};
  char text[64];
  return poll(&wait, 1, 1500) == 1 && read(fd, text, sizeof text) > 0;
}

static int unconnect(int fd) {
  struct sockaddr nothing = {.sa_family = AF_UNSPEC};
  return connect(fd, &nothing, sizeof nothing);
}

/* fresh PORT: our own sockets know nothing of the host. */
void net_fresh(int argc, char **argv) {
  int port = atoi(argv[argc - 1]);
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  if (reaches(fd, port)) breach("a fresh socket reaches the host's port %d", port);
  else held("a fresh socket does not reach the host");
  close(fd);
  fd = socket(AF_INET, SOCK_DGRAM, 0);
  struct sockaddr_in far = {.sin_family = AF_INET, .sin_port = htons(53), .sin_addr.s_addr = htonl(0x08080808)};
  must_fail(sendto(fd, "x", 1, 0, (struct sockaddr *)&far, sizeof far), "a datagram to the world");
  close(fd);
  fd = socket(AF_UNIX, SOCK_STREAM, 0);
  struct sockaddr_un name = {.sun_family = AF_UNIX};
  int length = snprintf(name.sun_path + 1, sizeof name.sun_path - 1, "canary-%d", port);
  must_fail(connect(fd, (struct sockaddr *)&name, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)length)), "an abstract socket of the host");
  close(fd);
}

/* accepted-connect PORT: a connection that was accepted belongs to the host's network; taken apart it must lead nowhere. */
void net_accepted_connect(int argc, char **argv) {
  int fd = lent[0];
  held("a connection of %s network", namespace_of(fd) == own_namespace() ? "our own" : "the host's");
  int undone = unconnect(fd);
  if (undone != 0) held("it cannot be undone: %s", strerror(errno));
  if (reaches(fd, atoi(argv[argc - 1]))) breach("an accepted connection, undone, reaches the host's port %s", argv[argc - 1]);
  else held("it reaches nothing");
}

/* accepted-listen PORT: the same, as a listener on a port that nobody published. */
void net_accepted_listen(int argc, char **argv) {
  int fd = lent[1], port = atoi(argv[argc - 1]);
  unconnect(fd);
  struct sockaddr_in any = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
  if (bind(fd, (struct sockaddr *)&any, sizeof any) != 0 || listen(fd, 5) != 0) {
    held("it does not listen: %s", strerror(errno));
    return;
  }
  printf("it listens\n");
  fcntl(fd, F_SETFL, 0);
  struct pollfd wait = {.fd = fd, .events = POLLIN};
  if (poll(&wait, 1, 3000) == 1 && accept(fd, NULL, NULL) >= 0) breach("a client of the host's port %d, which nobody published", port);
  else held("nobody gets through to it");
}

/* listener-connect PORT: the published listener, shut down, as a client. */
void net_listener_connect(int argc, char **argv) {
  int fd = dup(listener);
  shutdown(fd, SHUT_RDWR);
  if (reaches(fd, atoi(argv[argc - 1]))) breach("the published socket reaches the host's port %s", argv[argc - 1]);
  else held("the published socket reaches nothing");
  unconnect(fd);
  if (reaches(fd, atoi(argv[argc - 1]))) breach("the published socket, undone, reaches the host's port %s", argv[argc - 1]);
  else held("undone it reaches nothing");
}

/* The abstract socket on which an accomplice waits. */
static socklen_t accomplice(struct sockaddr_un *name) {
  *name = (struct sockaddr_un){.sun_family = AF_UNIX, .sun_path = "\0accomplice"};
  return offsetof(struct sockaddr_un, sun_path) + sizeof "\0accomplice" - 1;
}

/* give: a connection of the host's network to a program that entered beside us. */
void net_give(int argc, char **argv) {
  (void)argc, (void)argv;
  struct sockaddr_un name;
  socklen_t size = accomplice(&name);
  int to = socket(AF_UNIX, SOCK_STREAM, 0);
  for (int tries = 0; connect(to, (struct sockaddr *)&name, size) != 0 && tries < 200; tries++) usleep(50000);
  char byte = 'x', space[CMSG_SPACE(sizeof(int))] = {0};
  struct iovec part = {.iov_base = &byte, .iov_len = 1};
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = space, .msg_controllen = sizeof space};
  struct cmsghdr *header = CMSG_FIRSTHDR(&message);
  *header = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int))};
  memcpy(CMSG_DATA(header), &lent[0], sizeof(int));
  if (sendmsg(to, &message, 0) == 1 && read(to, &byte, 1) == 1) held("the accomplice has it");
  else printf("nobody took it: %s\n", strerror(errno));
}

/* take PORT: the accomplice, by `steading exec` or as a probe. */
void net_take(int argc, char **argv) {
  struct sockaddr_un name;
  socklen_t size = accomplice(&name);
  int door = socket(AF_UNIX, SOCK_STREAM, 0), one = 1;
  bind(door, (struct sockaddr *)&name, size);
  listen(door, 1);
  int from = accept(door, NULL, NULL);
  char byte, space[CMSG_SPACE(sizeof(int))];
  struct iovec part = {.iov_base = &byte, .iov_len = 1};
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = space, .msg_controllen = sizeof space};
  if (recvmsg(from, &message, 0) != 1 || !CMSG_FIRSTHDR(&message)) {
    printf("nothing came: %s\n", strerror(errno));
    return;
  }
  memcpy(&one, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof one);
  held("a connection of %s network", namespace_of(one) == own_namespace() ? "our own" : "the host's");
  unconnect(one);
  if (reaches(one, atoi(argv[argc - 1]))) breach("a connection given to who entered reaches the host's port %s", argv[argc - 1]);
  else held("it reaches nothing");
  write(from, "x", 1);
}

static union {
  struct sockaddr_in four;
  struct sockaddr_in6 six;
  struct sockaddr_un local;
} volatile target;
static volatile int racing = 1, victim = -1;

static void *flip_address(void *unused) {
  for (unsigned i = 0; racing; i++) {
    target.four.sin_port = htons(i & 1 ? 8080 : 9999);
    if (i % 64 == 0) target.four.sin_family = AF_UNIX;
    target.four.sin_family = AF_INET;
    target.four.sin_addr.s_addr = i & 2 ? 0 : htonl(INADDR_LOOPBACK);
  }
  return unused;
}

static void *flip_descriptor(void *unused) {
  int others[] = {open("/dev/null", O_RDWR), socket(AF_UNIX, SOCK_STREAM, 0), socket(AF_INET, SOCK_DGRAM, 0), socket(AF_INET, SOCK_STREAM, 0), lent_count > 2 ? lent[2] : dup(2)};
  for (unsigned i = 0; racing; i++) {
    int at = victim;
    if (at >= 0 && i % 3 == 0) dup2(others[i / 3 % 5], at);
    sched_yield();
  }
  return unused;
}

/* race SECONDS HOSTPORT: whatever wins, a socket of the host's network is the published one or one that was accepted from it. */
void net_race(int argc, char **argv) {
  int published = atoi(argv[argc - 1]);
  double end = now() + atof(argv[0]);
  uint64_t own = own_namespace();
  pthread_t threads[3];
  pthread_create(&threads[0], NULL, flip_address, NULL);
  pthread_create(&threads[1], NULL, flip_address, NULL);
  pthread_create(&threads[2], NULL, flip_descriptor, NULL);
  long rounds = 0, ours = 0, theirs = 0;
  int wrong = 0;
  if (lent_count > 2) unconnect(lent[2]);
  for (; now() < end && wrong < 5; rounds++) {
    int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    victim = rounds % 2 ? fd : -1;
    bind(fd, (struct sockaddr *)&target, sizeof(struct sockaddr_in));
    if (rounds % 16 == 0) listen(fd, 1);
    victim = -1;
    for (int at = 3; at < fd + 8; at++) {
      struct sockaddr_in name = {0};
      socklen_t size = sizeof name;
      if (getsockname(at, (struct sockaddr *)&name, &size) != 0 || name.sin_family != AF_INET) continue;
      if (namespace_of(at) == own) {
        ours++;
        continue;
      }
      theirs++;
      if (name.sin_port != 0 && ntohs(name.sin_port) != published) {
        breach("descriptor %d is bound to the host's port %d", at, ntohs(name.sin_port));
        wrong++;
      }
    }
    close(fd);
  }
  racing = 0;
  for (int i = 0; i < 3; i++) pthread_join(threads[i], NULL);
  held("%ld rounds, %ld sockets of ours, %ld of the host's", rounds, ours, theirs);
}

static void *flip_pair(void *pair) {
  const int *of = pair;
  while (racing) {
    dup2(of[0], victim);
    for (volatile int i = 0; i < 300; i++) {}
    dup2(of[1], victim);
    for (volatile int i = 0; i < 300; i++) {}
  }
  return NULL;
}

/* race-connect SECONDS PORT: a connection of the host's network takes the place of our own socket while connect is judged. */
void net_race_connect(int argc, char **argv) {
  double end = now() + atof(argv[0]);
  int pair[2] = {lent[2], socket(AF_INET, SOCK_STREAM, 0)}, locked = 0;
  socklen_t size = sizeof locked;
  getsockopt(lent[2], SOL_SOCKET, SO_LOCK_FILTER, &locked, &size);
  held("the host's sockets are %slocked", locked ? "" : "not ");
  victim = dup(pair[1]);
  pthread_t thread;
  pthread_create(&thread, NULL, flip_pair, pair);
  struct sockaddr_in address = loopback(atoi(argv[argc - 1]));
  long rounds = 0;
  for (int undone = 0; now() < end; rounds++) {
    struct sockaddr_in name = {0};
    struct sockaddr nothing = {.sa_family = AF_UNSPEC};
    size = sizeof name;
    if (!undone) {
      connect(victim, &nothing, sizeof nothing);
      undone = getpeername(lent[2], (struct sockaddr *)&name, &size) != 0;
      if (undone) printf("undone after %ld rounds\n", rounds);
      continue;
    }
    fcntl(lent[2], F_SETFL, O_NONBLOCK);
    fcntl(pair[1], F_SETFL, O_NONBLOCK);
    if (rounds % 2) connect(victim, (struct sockaddr *)&address, sizeof address);
    else sendto(lent[2], "x", 1, MSG_FASTOPEN | MSG_NOSIGNAL, (struct sockaddr *)&address, sizeof address);
    struct pollfd wait = {.fd = lent[2], .events = POLLIN};
    char text[64];
    if (poll(&wait, 1, 1) == 1 && read(lent[2], text, sizeof text) > 0) {
      breach("a connection swapped in reaches the host's port %s after %ld rounds", argv[argc - 1], rounds);
      break;
    }
  }
  racing = 0;
  pthread_join(thread, NULL);
  held("%ld rounds", rounds);
}

/* loopback: what is our own still works, by blocking and other sockets: a server and a client inside. */
void net_loopback(int argc, char **argv) {
  (void)argc, (void)argv;
  for (int blocking = 0; blocking < 2; blocking++) {
    int kind = SOCK_STREAM | (blocking ? 0 : SOCK_NONBLOCK), one = 1;
    int server = socket(AF_INET, SOCK_STREAM, 0), client = socket(AF_INET, kind, 0), other = socket(AF_INET, kind, 0);
    struct sockaddr_in address = loopback(9000 + blocking);
    setsockopt(server, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    must_fail(connect(other, (struct sockaddr *)&address, sizeof address), "a connect that nobody accepts");
    if (bind(server, (struct sockaddr *)&address, sizeof address) != 0 || listen(server, 5) != 0) breach("no server: %s", strerror(errno));
    must_fail(bind(client, (struct sockaddr *)&address, sizeof address), "a port that is taken");
    double begin = now();
    if (connect(client, (struct sockaddr *)&address, sizeof address) != 0 && errno != EINPROGRESS) breach("no connection: %s", strerror(errno));
    int accepted = accept(server, NULL, NULL);
    char text[6] = "";
    fcntl(client, F_SETFL, 0);
    if (write(accepted, "hello", 5) != 5 || read(client, text, 5) != 5) breach("no word: %s", strerror(errno));
    held("said %s after %.1f ms", text, 1000 * (now() - begin));
    close(client), close(accepted), close(server), close(other);
  }
}
