/*
 * Standard input and output as the guest's console, and the signals that end a run. A terminal is put into raw mode while a guest runs
 * and restored on every way out: at exit, and in the handlers of signals, fatal ones included.
 *
 * There is one per process, since a process has one standard input.
 */
#ifndef UMBRA_CLI_TERMINAL_H
#define UMBRA_CLI_TERMINAL_H

#include <umbra/vm.h>

/* Begins: handlers, and raw mode if standard input is a terminal and `serial` is wanted from it. vm is what signals stop. */
void terminal_begin(struct umbra_vm *vm, bool serial);
/* Writes what is left, restores the terminal and takes the handlers away. May be called twice. */
void terminal_end(void);

/* umbra_config.input: bytes of standard input, escapes (Ctrl-A) taken out when it is a terminal. */
int terminal_input(void *opaque, bool wait);
/* umbra_config.sleep: until so much time has passed or the user types. */
void terminal_sleep(void *opaque, uint64_t nanoseconds);
/* Guest output; it is written at the end of a line, when much has come together, and by terminal_flush(). */
void terminal_output(const void *bytes, size_t length);
void terminal_flush(void);

/* The signal that stopped the run, or 0. */
int terminal_signal(void);
/* errno of a failed write to standard output, or 0; the run is stopped then. */
int terminal_output_error(void);
/* Whether the user asked to quit (Ctrl-A x). */
bool terminal_quit(void);

#endif
