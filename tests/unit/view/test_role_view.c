/* Roles in words: each register bit that is on is told of, and no other. */
#include "scene.h"

static void tells_the_bits_that_are_on(void **state)
{
	struct scene scene;

	scene_start(&scene, "intel");
	scene_registers(&scene, CR0_WP, CR4_SMEP | CR4_PKE, EFER_NX);
	view_roles(&scene.text, scene.v);
	const char *text = strbuf_text(&scene.text);
	assert_says(text, "four levels: EFER.LMA");
	assert_says(text, "CR0.WP: the supervisor obeys R/W");
	assert_says(text, "CR4.SMEP: ");
	assert_says(text, "CR4.PKE: ");
	assert_silent(text, "CR4.SMAP");
	assert_silent(text, "CR4.PKS");
	assert_says(text, "the tables in use map guest-physical addresses");
	assert_columns(text, 110);
	scene_stop(&scene);
}

static void tells_that_paging_is_off(void **state)
{
	struct scene scene;

	scene_start(&scene, "amd");
	view_roles(&scene.text, scene.v);
	assert_says(strbuf_text(&scene.text), "CR0.PG is clear");
	assert_silent(strbuf_text(&scene.text), "CR4.");
	scene_stop(&scene);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tells_the_bits_that_are_on),
		cmocka_unit_test(tells_that_paging_is_off),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
