// Draws a lapstrake hull, plank over plank, and tells what a process sees from inside its container.
#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

enum { PLANKS = 7, WIDTH = 62 };

// Each plank overlaps the one below it and reaches a little further out.
static void draw_hull(const char *word) {
    for (int plank = 0; plank < PLANKS; plank++) {
        int indent = plank * plank / 2;
        int inside = WIDTH - 2 * indent - 2;
        int label = plank == PLANKS / 2 ? (int)strlen(word) : 0;
        printf("  %*s\\", indent, "");
        for (int i = 0; i < inside; i++) {
            int at = i - (inside - label) / 2;
            putchar(at >= 0 && at < label ? word[at] : plank == PLANKS - 1 ? '=' : '_');
        }
        puts("/");
    }
}

// The root directory holds this program and what the runtime put there, and nothing of the host.
static void list_root(void) {
    DIR *root = opendir("/");
    if (root == NULL) {
        perror("opendir /");
        return;
    }
    printf("  files in /    ");
    for (struct dirent *entry; (entry = readdir(root)) != NULL;) {
        if (entry->d_name[0] != '.') {
            printf(" %s", entry->d_name);
        }
    }
    putchar('\n');
    closedir(root);
}

int main(int argc, char **argv) {
    struct utsname kernel;
    if (uname(&kernel) != 0) {
        perror("uname");
        return 1;
    }
    draw_hull(argc > 1 ? argv[1] : "planks");
    printf("\n  kernel         %s %s\n", kernel.sysname, kernel.release);
    printf("  host name      %s\n", kernel.nodename);
    printf("  process id     %d\n", (int)getpid());
    printf("  user id        %d\n", (int)getuid());
    list_root();
    return 0;
}
