/* The invariants of nested state: a sound machine has none broken, and each damage is found and named. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/bug.h"
#include "nested.h"
#include "svm/svm.h"

static void expect_broken(const struct fixture *f, bool refused, const char *number)
{
	const char *broken = svm_broken(f->v, refused);
	assert_non_null(broken);
	assert_int_equal(strncmp(broken, number, strlen(number)), 0);
}

static void sound_states(void **state)
{
	struct fixture *f = nested_create("amd");
	assert_null(svm_broken(f->v, false));
	nested_vmrun(f);
	assert_true(f->v->guest_mode);
	assert_null(svm_broken(f->v, false));
	nested_exit(f, VMEXIT_CPUID);
	assert_null(svm_broken(f->v, false));
	nested_rewind(f);
	nested_vmcb(f)->control.asid = 0;
	nested_vmrun(f);
	assert_null(svm_broken(f->v, true));
	nested_destroy(f);
}

static void damaged_copies(void **state)
{
	struct fixture *f = nested_create("amd");
	struct nested *nested = f->v->nested;
	nested->control.asid = 1;
	expect_broken(f, false, "INV-25");
	svm_poison_control(f->v);
	nested->save.rip = 0;
	expect_broken(f, false, "INV-25");
	svm_poison_save(f->v);
	nested->save_valid = true;
	expect_broken(f, false, "INV-25");
	nested->save_valid = false;
	nested->control_valid = true;
	expect_broken(f, false, "INV-25");
	nested->control_valid = false;
	assert_null(svm_broken(f->v, false));
	nested_destroy(f);
}

static void damaged_guest(void **state)
{
	struct fixture *f = nested_create("amd");
	nested_vmrun(f);
	struct vmcb_control_cached *control = &f->v->nested->control, good = *control;
	struct svm_host *host = &f->v->nested->host;
	control->intercepts[VMCB_MISC2] = 0;
	expect_broken(f, false, "INV-26");
	*control = good;
	control->asid = 0;
	expect_broken(f, false, "INV-26");
	*control = good;
	control->int_ctl |= VINTR_AVIC_ENABLE;
	expect_broken(f, false, "INV-26");
	*control = good;
	control->event_inj = EVENT_VALID;
	expect_broken(f, false, "INV-26");
	*control = good;
	host->efer &= ~EFER_SVME;
	expect_broken(f, false, "INV-26");
	host->efer |= EFER_SVME;
	f->v->cr3 ^= 0x1000;
	expect_broken(f, false, "INV-17");
	f->v->cr3 ^= 0x1000;
	f->v->guest_mode = false;
	expect_broken(f, false, "INV-25");
	f->v->guest_mode = true;
	assert_null(svm_broken(f->v, false));
	nested_destroy(f);
}

static void nested_paging_without_the_feature(void **state)
{
	struct fixture *f = nested_create("amd,-npt");
	nested_vmrun(f);
	assert_null(svm_broken(f->v, false));
	f->v->nested->control.nested_ctl = NESTED_CTL_NP;
	expect_broken(f, false, "INV-26");
	nested_destroy(f);
}

static void damaged_refusal(void **state)
{
	struct fixture *f = nested_create("amd");
	nested_vmcb(f)->control.asid = 0;
	nested_vmrun(f);
	assert_null(svm_broken(f->v, true));
	f->v->gpr[REG_RSP]++;
	expect_broken(f, true, "INV-27");
	f->v->gpr[REG_RSP]--;
	f->v->seg[SEG_SS].limit ^= 1;
	expect_broken(f, true, "INV-27");
	f->v->seg[SEG_SS].limit ^= 1;
	f->v->idtr.limit ^= 1;
	expect_broken(f, true, "INV-27");
	f->v->idtr.limit ^= 1;
	f->v->gif = true;
	expect_broken(f, true, "INV-27");
	nested_destroy(f);
}

/* A machine that verifies itself goes no further than the damage. */
static void damage_is_a_bug(void **state)
{
#ifdef UMBRA_BUG_ABORTS
	skip(); /* there a bug ends the program */
#else
	struct fixture *f = nested_create("amd");
	struct bug_trap trap;
	svm_set_verify(f->v, true);
	nested_vmrun(f);
	svm_verify_now(f->v, false);
	f->v->nested->control.asid = 0;
	bug_trap_arm(&trap);
	if (!setjmp(trap.env)) {
		svm_verify_now(f->v, false);
		bug_trap_disarm(&trap);
		fail_msg("the damage was not seen");
	}
	assert_int_equal(strncmp(trap.what, "INV-26", 6), 0);
	nested_destroy(f);
#endif
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sound_states), cmocka_unit_test(damaged_copies), cmocka_unit_test(damaged_guest),
		cmocka_unit_test(nested_paging_without_the_feature), cmocka_unit_test(damaged_refusal), cmocka_unit_test(damage_is_a_bug),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
