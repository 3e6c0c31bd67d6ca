/*
 * The console on standard input and output, see terminal.h. Handlers touch only what is safe in them: tcsetattr(), write(), umbra_vm_stop()
 * and variables of type sig_atomic_t.
 */
#define _GNU_SOURCE /* ppoll */
#include "cli/terminal.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "cli/message.h"

#define ESCAPE 0x01 /* Ctrl-A */
#define WAIT_MILLISECONDS 100
#define WAIT_NANOSECONDS (WAIT_MILLISECONDS * 1000000ull)
#define OUTPUT_SIZE 8192

static struct {
	struct umbra_vm *vm;
	bool begun, reading;     /* reading: standard input is the guest's */
	bool interactive;        /* it is a terminal, and ours */
	volatile sig_atomic_t raw;
	struct termios cooked, uncooked;
	volatile sig_atomic_t signal;
	bool escaped, ended, quit;
	int output_error;
	unsigned char input[256];
	size_t input_used, input_length;
	char output[OUTPUT_SIZE];
	volatile size_t output_length;
} terminal;

/* ---- raw mode --------------------------------------------------------------------------------------------------------------- */

static bool in_foreground(void)
{
	return tcgetpgrp(STDIN_FILENO) == getpgrp();
}

static void make_raw(void)
{
	if (terminal.interactive && !terminal.raw && in_foreground() && !tcsetattr(STDIN_FILENO, TCSANOW, &terminal.uncooked))
		terminal.raw = 1;
}

static void make_cooked(void)
{
	if (terminal.raw)
		tcsetattr(STDIN_FILENO, TCSANOW, &terminal.cooked);
	terminal.raw = 0;
}

/* Output processing stays on: a guest's bare line feed begins a new line. */
static void prepare_raw(void)
{
	if (!isatty(STDIN_FILENO) || tcgetattr(STDIN_FILENO, &terminal.cooked))
		return;
	terminal.uncooked = terminal.cooked;
	terminal.uncooked.c_iflag &= ~(tcflag_t)(BRKINT | ICRNL | INLCR | IGNCR | INPCK | ISTRIP | IXON);
	terminal.uncooked.c_lflag &= ~(tcflag_t)(ECHO | ECHONL | ICANON | IEXTEN | ISIG);
	terminal.uncooked.c_cc[VMIN] = 1;
	terminal.uncooked.c_cc[VTIME] = 0;
	terminal.interactive = true;
}

/* ---- signals ---------------------------------------------------------------------------------------------------------------- */

static void die_of(int number)
{
	signal(number, SIG_DFL);
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, number);
	sigprocmask(SIG_UNBLOCK, &set, NULL);
	raise(number);
}

/* The first one ends the run in good order; the second one ends the process. */
static void handle_end(int number)
{
	int kept = errno;

	if (terminal.signal) {
		make_cooked();
		die_of(number);
	}
	terminal.signal = number;
	umbra_vm_stop(terminal.vm);
	errno = kept;
}

/* A fault of this process: what the guest wrote still gets out, and the terminal is usable afterwards. */
static void handle_fatal(int number)
{
	make_cooked();
	size_t length = terminal.output_length;
	terminal.output_length = 0;
	write_all(STDOUT_FILENO, terminal.output, length);
	die_of(number);
}

static void handle_suspend(int number);

static void handle_continue(int number)
{
	int kept = errno;

	signal(SIGTSTP, handle_suspend);
	make_raw();
	errno = kept;
}

static void handle_suspend(int number)
{
	int kept = errno;

	make_cooked();
	die_of(SIGTSTP);
	errno = kept;
}

static const int ending[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};
static const int fatal[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT};

static void install(const int *numbers, size_t count, void (*handler)(int))
{
	struct sigaction action = {.sa_handler = handler};

	sigemptyset(&action.sa_mask);
	for (size_t n = 0; n < count; n++)
		sigaction(numbers[n], &action, NULL);
}

void terminal_begin(struct umbra_vm *vm, bool serial)
{
	terminal.vm = vm;
	terminal.reading = serial;
	if (serial)
		prepare_raw();
	if (!terminal.begun)
		atexit(terminal_end);
	terminal.begun = true;
	install(ending, sizeof(ending) / sizeof(ending[0]), handle_end);
	install(fatal, sizeof(fatal) / sizeof(fatal[0]), handle_fatal);
	signal(SIGPIPE, SIG_IGN);
	if (terminal.interactive) {
		signal(SIGTSTP, handle_suspend);
		signal(SIGCONT, handle_continue);
		make_raw();
	}
}

void terminal_end(void)
{
	terminal_flush();
	make_cooked();
	if (!terminal.vm)
		return;
	terminal.vm = NULL;
	terminal.interactive = false;
	install(ending, sizeof(ending) / sizeof(ending[0]), SIG_DFL);
	install(fatal, sizeof(fatal) / sizeof(fatal[0]), SIG_DFL);
	signal(SIGTSTP, SIG_DFL);
	signal(SIGCONT, SIG_DFL);
}

int terminal_signal(void)
{
	return terminal.signal;
}

bool terminal_quit(void)
{
	return terminal.quit;
}

/* ---- output ----------------------------------------------------------------------------------------------------------------- */

int terminal_output_error(void)
{
	return terminal.output_error;
}

void terminal_flush(void)
{
	size_t length = terminal.output_length;

	if (!length)
		return;
	terminal.output_length = 0;
	if (terminal.output_error || write_all(STDOUT_FILENO, terminal.output, length))
		return;
	terminal.output_error = errno;
	if (terminal.vm)
		umbra_vm_stop(terminal.vm);
}

void terminal_output(const void *bytes, size_t length)
{
	const char *at = bytes;

	for (size_t n = 0; n < length; n++) {
		if (terminal.output_length == OUTPUT_SIZE)
			terminal_flush();
		terminal.output[terminal.output_length] = at[n];
		terminal.output_length++;
		if (at[n] == '\n')
			terminal_flush();
	}
}

/* ---- input ------------------------------------------------------------------------------------------------------------------ */

static void help_on_keys(void)
{
	static const char text[] = "\r\nCtrl-A h  this text\r\nCtrl-A x  quit\r\nCtrl-A Ctrl-A  send Ctrl-A\r\n";

	terminal_flush();
	write_all(STDERR_FILENO, text, sizeof(text) - 1);
}

static int after_escape(int byte)
{
	terminal.escaped = false;
	switch (byte) {
	case ESCAPE:
		return byte;
	case 'h':
	case '?':
		help_on_keys();
		return UMBRA_INPUT_NONE;
	case 'x':
		terminal.quit = true;
		umbra_vm_stop(terminal.vm);
		return UMBRA_INPUT_NONE;
	default:
		return UMBRA_INPUT_NONE;
	}
}

static int next_byte(void)
{
	while (terminal.input_used < terminal.input_length) {
		int byte = terminal.input[terminal.input_used++];
		if (!terminal.interactive)
			return byte;
		if (terminal.escaped)
			byte = after_escape(byte);
		else if (byte == ESCAPE)
			terminal.escaped = true, byte = UMBRA_INPUT_NONE;
		if (byte >= 0)
			return byte;
	}
	return UMBRA_INPUT_NONE;
}

static void fill_input(uint64_t nanoseconds)
{
	struct pollfd ready = {.fd = STDIN_FILENO, .events = POLLIN};
	struct timespec limit = {.tv_sec = (time_t)(nanoseconds / 1000000000), .tv_nsec = (long)(nanoseconds % 1000000000)};

	if (ppoll(&ready, 1, &limit, NULL) <= 0)
		return;
	ssize_t got = ready.revents & POLLNVAL ? 0 : read(STDIN_FILENO, terminal.input, sizeof(terminal.input));
	if (got > 0) {
		terminal.input_used = 0;
		terminal.input_length = (size_t)got;
	} else if (got == 0 || (errno != EINTR && errno != EAGAIN)) {
		terminal.ended = true;
	}
}

/* Whether a look at standard input would tell something new: it is open, ours to read, and what came before has been used. */
static bool may_read(void)
{
	return terminal.reading && !terminal.ended && terminal.input_used == terminal.input_length &&
	       (!terminal.interactive || in_foreground());
}

void terminal_sleep(void *opaque, uint64_t nanoseconds)
{
	uint64_t limit = nanoseconds < WAIT_NANOSECONDS ? nanoseconds : WAIT_NANOSECONDS;
	struct timespec wanted = {.tv_nsec = (long)limit};

	terminal_flush();
	if (may_read())
		fill_input(limit);
	else
		nanosleep(&wanted, NULL);
}

int terminal_input(void *opaque, bool wait)
{
	int byte = next_byte();

	if (byte >= 0)
		return byte;
	if (terminal.ended)
		return UMBRA_INPUT_END;
	if (wait)
		terminal_flush();
	/* In the background a read would stop the process; the guest goes on without its user. */
	if (terminal.interactive && !in_foreground()) {
		if (wait)
			poll(NULL, 0, WAIT_MILLISECONDS);
		return UMBRA_INPUT_NONE;
	}
	fill_input(wait ? WAIT_NANOSECONDS : 0);
	return terminal.ended ? UMBRA_INPUT_END : next_byte();
}
