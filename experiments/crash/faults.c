// Makes the n-th file operation of one kind below a folder fail once. To be preloaded:
// LD_PRELOAD=faults.so. Nothing fails until ltjax_arm is called, so a process that has preloaded it
// can fork and arm each child differently.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { OPEN, WRITE, FSYNC, RENAME, MKDIR, UNLINK, KINDS };

static char prefix[PATH_MAX];
static char hit[PATH_MAX];
static atomic_long counts[KINDS];
static int kind_to_fail = -1, error_to_give;
static long number_to_fail;

void ltjax_arm(const char* folder, int kind, long number, int error) {
  snprintf(prefix, sizeof prefix, "%s", folder);
  for (int k = 0; k < KINDS; ++k) atomic_store(&counts[k], 0);
  hit[0] = 0;
  number_to_fail = number;
  error_to_give = error;
  kind_to_fail = kind;
}

long ltjax_count(int kind) { return atomic_load(&counts[kind]); }
const char* ltjax_hit(void) { return hit; }

static int fails(int kind, const char* path) {
  if (!prefix[0] || !path || strncmp(path, prefix, strlen(prefix))) return 0;
  long number = atomic_fetch_add(&counts[kind], 1) + 1;
  if (kind != kind_to_fail || number != number_to_fail) return 0;
  snprintf(hit, sizeof hit, "%s", path);
  errno = error_to_give;
  return 1;
}

static int fails_at(int kind, int folder, const char* name) {
  if (!prefix[0] || !name) return 0;
  if (name[0] == '/' || folder == AT_FDCWD) return fails(kind, name);
  char link[64], path[2 * PATH_MAX];
  snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
  ssize_t length = readlink(link, path, PATH_MAX - 1);
  if (length < 0) return 0;
  snprintf(path + length, sizeof path - length, "/%s", name);
  return fails(kind, path);
}

static int fails_fd(int kind, int file) {
  if (!prefix[0]) return 0;
  char link[64], path[PATH_MAX];
  int before = errno;
  snprintf(link, sizeof link, "/proc/self/fd/%d", file);
  ssize_t length = readlink(link, path, sizeof path - 1);
  errno = before;
  if (length < 0) return 0;
  path[length] = 0;
  return fails(kind, path);
}

#define NEXT(name) \
  static __typeof__(&name) next; \
  if (!next) next = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

#define OPENS(name) \
  int name(const char* path, int flags, ...) { \
    NEXT(name); \
    va_list rest; \
    va_start(rest, flags); \
    mode_t mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(rest, mode_t) : 0; \
    va_end(rest); \
    return fails(OPEN, path) ? -1 : next(path, flags, mode); \
  }
OPENS(open)
OPENS(open64)

#define OPENS_AT(name) \
  int name(int folder, const char* path, int flags, ...) { \
    NEXT(name); \
    va_list rest; \
    va_start(rest, flags); \
    mode_t mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(rest, mode_t) : 0; \
    va_end(rest); \
    return fails_at(OPEN, folder, path) ? -1 : next(folder, path, flags, mode); \
  }
OPENS_AT(openat)
OPENS_AT(openat64)

ssize_t write(int file, const void* data, size_t size) {
  NEXT(write);
  return fails_fd(WRITE, file) ? -1 : next(file, data, size);
}
ssize_t pwrite(int file, const void* data, size_t size, off_t at) {
  NEXT(pwrite);
  return fails_fd(WRITE, file) ? -1 : next(file, data, size, at);
}
ssize_t pwrite64(int file, const void* data, size_t size, off64_t at) {
  NEXT(pwrite64);
  return fails_fd(WRITE, file) ? -1 : next(file, data, size, at);
}
ssize_t writev(int file, const struct iovec* parts, int count) {
  NEXT(writev);
  return fails_fd(WRITE, file) ? -1 : next(file, parts, count);
}
int fsync(int file) {
  NEXT(fsync);
  return fails_fd(FSYNC, file) ? -1 : next(file);
}
int fdatasync(int file) {
  NEXT(fdatasync);
  return fails_fd(FSYNC, file) ? -1 : next(file);
}
int rename(const char* from, const char* to) {
  NEXT(rename);
  return fails(RENAME, to) ? -1 : next(from, to);
}
int renameat(int a, const char* from, int b, const char* to) {
  NEXT(renameat);
  return fails_at(RENAME, b, to) ? -1 : next(a, from, b, to);
}
int mkdir(const char* path, mode_t mode) {
  NEXT(mkdir);
  return fails(MKDIR, path) ? -1 : next(path, mode);
}
int mkdirat(int folder, const char* path, mode_t mode) {
  NEXT(mkdirat);
  return fails_at(MKDIR, folder, path) ? -1 : next(folder, path, mode);
}
int unlink(const char* path) {
  NEXT(unlink);
  return fails(UNLINK, path) ? -1 : next(path);
}
int unlinkat(int folder, const char* path, int flags) {
  NEXT(unlinkat);
  return fails_at(UNLINK, folder, path) ? -1 : next(folder, path, flags);
}
