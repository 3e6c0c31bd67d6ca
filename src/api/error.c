/* Errors of the lower layers as the client sees them, and small things that all of api/ uses. */
#include "api/internal.h"

#include <stdarg.h>
#include <stdio.h>

_Static_assert((int)UMBRA_ERROR_USAGE == (int)ERR_USAGE && (int)UMBRA_ERROR_OPEN == (int)ERR_OPEN &&
	       (int)UMBRA_ERROR_IMAGE == (int)ERR_IMAGE && (int)UMBRA_ERROR_INTERNAL == (int)ERR_INTERNAL, "error codes are the same");

const char *umbra_version(void)
{
#define TEXT_OF(x) #x
#define DOTTED(a, b, c) TEXT_OF(a) "." TEXT_OF(b) "." TEXT_OF(c)
	return DOTTED(UMBRA_VERSION_MAJOR, UMBRA_VERSION_MINOR, UMBRA_VERSION_PATCH);
}

bool api_fail(struct umbra_error *error, const struct err *err)
{
	if (error) {
		error->code = (enum umbra_error_code)err->code;
		snprintf(error->text, sizeof(error->text), "%s", err->text);
	}
	return false;
}

bool api_refuse(struct umbra_error *error, const char *format, ...)
{
	va_list arguments;

	if (!error)
		return false;
	error->code = UMBRA_ERROR_USAGE;
	va_start(arguments, format);
	vsnprintf(error->text, sizeof(error->text), format, arguments);
	va_end(arguments);
	return false;
}

bool api_at_rest(const struct umbra_vm *vm, const char *what, struct umbra_error *error)
{
	if (vm->machine->dead)
		return api_refuse(error, "%s: the machine is dead after a bug", what);
	if (vm->machine->running)
		return api_refuse(error, "%s: an instruction is under way; change it between runs", what);
	return true;
}

void api_write(struct strbuf *text, umbra_write_function *write, void *opaque)
{
	if (text->length)
		write(opaque, text->text, text->length);
	strbuf_finish(text);
}
