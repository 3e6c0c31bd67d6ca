/*
 * The program that uses KVM inside umbra: a nested guest of our own (session.c), or a Linux kernel (linux.c).
 *
 *   monitor                                           the nested guest; ends with the line "monitor: good"
 *   monitor linux KERNEL INITRD COMMAND-LINE MIBS     a Linux kernel
 *
 * The status is 0 if all went well.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "monitor.h"

int main(int count, char **words)
{
	int status;

	if (count == 1) {
		status = session_run();
	} else if (count == 6 && !strcmp(words[1], "linux")) {
		status = linux_run(words[2], words[3], words[4], (unsigned)atoi(words[5]));
	} else {
		fprintf(stderr, "usage: monitor [linux kernel initrd command-line mebibytes]\n");
		return 64;
	}
	printf("monitor: %s\n", status ? "bad" : "good");
	return status;
}
