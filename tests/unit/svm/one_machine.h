/*
 * One machine of nested.h for all tests of a program: f, made before the first and released after the last, where set_up() and tear_down()
 * are given to cmocka. Each test rewinds it. To be included by such a program, after cmocka.h.
 */
#ifndef UMBRA_TEST_SVM_ONE_MACHINE_H
#define UMBRA_TEST_SVM_ONE_MACHINE_H

#include "nested.h"

static struct fixture *f;

static int set_up(void **state)
{
	f = nested_create("amd");
	return 0;
}

static int tear_down(void **state)
{
	nested_destroy(f);
	return 0;
}

/* Another machine in its place, with a processor of this model. */
static inline void change_model(const char *text)
{
	nested_destroy(f);
	f = nested_create(text);
}

#endif
