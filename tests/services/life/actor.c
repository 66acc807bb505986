/* A service that does what its arguments say, one step after the other; static, so that it runs in any image.
 *
 *   print:TEXT  sleep:MS  spin:MS  exit:CODE  crash  wait
 *   say:FIELDS          sd_notify(3); `;` separates fields
 *   huge  nul  flood:COUNT  fds:COUNT   bad datagrams
 *   listen:PORT  accept (for ever)  http:STATUS,STATUS,... (the last one for ever)
 *   on:SIGNAL:CODE      a handler that exits; CODE `-` ignores the signal; late:SIGNAL:CODE takes 2 s for it
 *   env:NAME            prints a variable
 *   fork:parent step,step,... the parent does these steps (its child goes on with the rest)
 *   touch:PATH  append:PATH:TEXT  until:PATH (waits for a file)
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int codes[65];
static int listener = -1;

static void handler(int number) {
    char text[] = "handled a signal\n";
    if (write(1, text, sizeof text - 1) < 0) _exit(99);
    _exit(codes[number]);
}

static void late(int number) {
    sleep(2);
    handler(number);
}

static void rest(long ms) {
    struct timespec time = {ms / 1000, ms % 1000 * 1000000};
    while (nanosleep(&time, &time) && errno == EINTR) {}
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

static int send_bytes(const void *bytes, size_t length, int fds) {
    const char *path = getenv("NOTIFY_SOCKET");
    static int fd = -1;
    static struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (!path) { puts("no NOTIFY_SOCKET"); exit(98); }
    if (fd < 0) {
        fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        strncpy(address.sun_path, path, sizeof address.sun_path - 1);
        int size = 1 << 20;
        setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    }
    struct iovec part = {(void *)bytes, length};
    struct msghdr header = {.msg_name = &address, .msg_namelen = sizeof address, .msg_iov = &part, .msg_iovlen = 1};
    char control[CMSG_SPACE(sizeof(int) * 200)] = {0};
    if (fds) {
        header.msg_control = control;
        header.msg_controllen = CMSG_SPACE(sizeof(int) * fds);
        struct cmsghdr *first = CMSG_FIRSTHDR(&header);
        first->cmsg_level = SOL_SOCKET;
        first->cmsg_type = SCM_RIGHTS;
        first->cmsg_len = CMSG_LEN(sizeof(int) * fds);
        for (int i = 0; i < fds; i++) ((int *)CMSG_DATA(first))[i] = 0;
    }
    return sendmsg(fd, &header, MSG_NOSIGNAL) < 0 ? -1 : 0;
}

static void say(const char *text) {
    char copy[4096];
    snprintf(copy, sizeof copy, "%s", text);
    for (char *c = copy; *c; c++) if (*c == ';') *c = '\n';
    char *child = strstr(copy, "MAINPID=self");
    if (child) sprintf(child, "MAINPID=%d", getpid());
    if (send_bytes(copy, strlen(copy), 0)) perror("say");
}

static void step(const char *text);

static void steps(char *list) {
    for (char *word = strtok(list, ","); word; word = strtok(NULL, ",")) step(word);
}

static void http(char *list) {
    char *status = strtok(list, ",");
    for (;;) {
        int client = accept(listener, NULL, NULL);
        if (client < 0) continue;
        char request[1024], answer[256];
        if (read(client, request, sizeof request) > 0) {
            int length = snprintf(answer, sizeof answer, "HTTP/1.1 %s x\r\nContent-Length: 2\r\n\r\nok", status);
            if (write(client, answer, length) < 0) perror("write");
            char *next = strtok(NULL, ",");
            if (next) status = next;
        }
        close(client);
    }
}

static void step(const char *text) {
    char name[64] = "", *value = strchr(text, ':');
    snprintf(name, sizeof name, "%.*s", value ? (int)(value - text) : 63, text);
    value = strdup(value ? value + 1 : "");
    if (!strcmp(name, "print")) { printf("%s\n", value); fflush(stdout); }
    else if (!strcmp(name, "sleep")) rest(atol(value));
    else if (!strcmp(name, "spin")) { double end = now() + atol(value) / 1e3; while (now() < end) {} }
    else if (!strcmp(name, "exit")) exit(atoi(value));
    else if (!strcmp(name, "crash")) *(volatile int *)0 = 1;
    else if (!strcmp(name, "wait")) for (;;) rest(60000);
    else if (!strcmp(name, "say")) say(value);
    else if (!strcmp(name, "huge")) { static char big[100000]; memset(big, 'x', sizeof big); memcpy(big, "READY=1\n", 8); send_bytes(big, sizeof big, 0); }
    else if (!strcmp(name, "nul")) send_bytes("READY=1\n\0", 9, 0);
    else if (!strcmp(name, "flood")) { for (long i = atol(value); i > 0; i--) { char t[64]; snprintf(t, sizeof t, "STATUS=flood %ld\nMAINPID=%ld", i, i + 100000); send_bytes(t, strlen(t), 0); } }
    else if (!strcmp(name, "fds")) for (int i = atoi(value); i > 0; i--) send_bytes("FDSTORE=1\nFDNAME=x", 18, 200);
    else if (!strcmp(name, "listen")) {
        struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(value))};
        listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 64)) { perror("listen"); exit(97); }
    }
    else if (!strcmp(name, "accept")) for (;;) { int client = accept(listener, NULL, NULL); if (client >= 0) close(client); }
    else if (!strcmp(name, "http")) http(value);
    else if (!strcmp(name, "on")) {
        int number = atoi(value);
        char *code = strchr(value, ':');
        if (code[1] == '-') signal(number, SIG_IGN);
        else { codes[number] = atoi(code + 1); signal(number, handler); }
    }
    else if (!strcmp(name, "late")) { codes[atoi(value)] = atoi(strchr(value, ':') + 1); signal(atoi(value), late); }
    else if (!strcmp(name, "env")) { char *found = getenv(value); printf("%s=%s\n", value, found ? found : "(none)"); fflush(stdout); }
    else if (!strcmp(name, "fork")) { if (fork()) { steps(value); } }
    else if (!strcmp(name, "touch")) close(open(value, O_CREAT | O_WRONLY, 0644));
    else if (!strcmp(name, "until")) while (access(value, F_OK)) rest(20);
    else if (!strcmp(name, "append")) {
        char *line = strchr(value, ':');
        *line++ = 0;
        FILE *file = fopen(value, "a");
        if (!file) { perror(value); exit(96); }
        fprintf(file, "%s\n", line);
        fclose(file);
    }
    else { printf("unknown step %s\n", text); exit(95); }
    free(value);
}

int main(int count, char **words) {
    for (int i = 1; i < count; i++) step(words[i]);
    return 0;
}
