/* Runs a program as container runtimes do: in a mount, pid and user namespace of its own, in a root
 * that is a file system of its own. Arguments: how the root is made ("tmpfs": a copy in memory that no
 * path outside leads to; "overlay": layers over the given root), the root, and the program with its
 * arguments. It ends as the program ends. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void must(int succeeded, const char *what)
{
    if (!succeeded) {
        fprintf(stderr, "cannot %s: %s\n", what, strerror(errno));
        _exit(90);
    }
}

static void write_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY);
    must(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text), path);
    close(fd);
}

static void become_root_of_a_user_namespace(void)
{
    must(unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0, "make namespaces");
    write_file("/proc/self/setgroups", "deny");
    write_file("/proc/self/uid_map", "0 0 1");
    write_file("/proc/self/gid_map", "0 0 1");
}

/* The new root is at `root`/new afterwards. */
static void make_root(const char *how, const char *root, char *new_root, size_t size)
{
    char command[8192];
    snprintf(new_root, size, "%s/new", root);
    must(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0, "leave the mounts to this namespace");
    must(mount("tmpfs", new_root, "tmpfs", 0, "mode=755") == 0, "mount a tmpfs");
    if (strcmp(how, "overlay") == 0) {
        char upper[4096], work[4096], merged[4096];
        snprintf(upper, sizeof upper, "%s/upper", new_root);
        snprintf(work, sizeof work, "%s/work", new_root);
        snprintf(merged, sizeof merged, "%s/merged", new_root);
        must(!mkdir(upper, 0755) && !mkdir(work, 0755) && !mkdir(merged, 0755), "make layers");
        snprintf(command, sizeof command, "lowerdir=%s/image,upperdir=%s,workdir=%s,userxattr", root, upper, work);
        must(mount("overlay", merged, "overlay", 0, command) == 0, "mount an overlay");
        snprintf(new_root, size, "%s", merged);
    } else {
        snprintf(command, sizeof command, "cp -a '%s/image/.' '%s'", root, new_root);
        must(system(command) == 0, "copy the image");
    }
}

int main(int argc, char **argv)
{
    char new_root[4096];
    if (argc < 4)
        return 91;
    become_root_of_a_user_namespace();
    make_root(argv[1], argv[2], new_root, sizeof new_root);
    /* Only now: the first process in it is its init, and it is dead when that ends. */
    must(unshare(CLONE_NEWPID) == 0, "make a pid namespace");
    pid_t child = fork();
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        must(chdir(new_root) == 0, "enter the new root");
        must(syscall(SYS_pivot_root, ".", ".") == 0, "change the root");
        must(umount2(".", MNT_DETACH) == 0 && chdir("/") == 0, "leave the old root");
        execv(argv[3], argv + 3);
        must(0, argv[3]);
    }
    must(child > 0, "fork");
    int status = 0;
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
