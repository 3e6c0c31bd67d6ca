/*
 * The machine of hostile_guest.h with SVM, and around it what other processors and devices do between turns: stores into VMCBs and tables,
 * interrupts of all kinds, a client that takes a nested guest out and puts another one in. Behind each VMRUN's copy, the VMCB is changed
 * at once: nothing may depend on it any more.
 *
 * After each turn: what hostile_guest.c checks; the copies are there in guest mode, and poison else; what runs is what the rules of VMRUN
 * let through; no exit is left over.
 */
#include "nested_run.h"

#include "base/digest.h"
#include "svm/state.h"

struct nested_totals nested_totals;

struct more {
	const struct nested_plan *plan;
	struct choices script;
	bool in_guest;
	gpa_t vmcb;
	unsigned reads; /* of a whole VMCB since the last VMRUN's copy */
};

/* ---- the adversary ------------------------------------------------------------------------------------------------------ */

static void store_edit(struct guest *g, struct nested_edit edit)
{
	mem_write(&g->space, 0, NESTED_HIGH + edit.offset, &edit.value, edit.size);
}

static void copied(void *opaque)
{
	struct guest *g = opaque;
	struct more *more = g->more;
	REQUIRE(more->reads == 1);
	more->reads = 0;
	nested_totals.entries++;
	if (choose_yes(&more->script))
		store_edit(g, nested_choose_edit(more->plan, &more->script));
}

static void guest_read(void *opaque, gpa_t gpa, size_t length)
{
	struct guest *g = opaque;
	((struct more *)g->more)->reads += length == VMCB_SIZE && mem_slot_find(&g->space, vcpu_address_space(g->v), gpa_to_gfn(gpa));
}

/* ---- what must hold ----------------------------------------------------------------------------------------------------- */

static bool is_poison(const void *bytes, size_t length)
{
	const uint8_t *byte = bytes;
	for (size_t n = 0; n < length; n++)
		if (byte[n] != byte[0] || !byte[0])
			return false;
	return true;
}

static void note_exit(struct guest *g, const struct more *more)
{
	uint64_t code = 0;
	nested_totals.exits++;
	if (!mem_read(&g->space, 0, more->vmcb + offsetof(struct vmcb, control.exit_code), &code, 8))
		return;
	if (code <= 0x402)
		nested_totals.codes[code / 64] |= BIT(code % 64);
}

static void check_guest_mode(const struct vcpu *v)
{
	const struct vmcb_control_cached *control = &v->nested->control;
	const struct svm_host *host = &v->nested->host;
	REQUIRE(control->intercepts[VMCB_MISC2] & 1);
	REQUIRE(control->asid && !(control->int_ctl & VINTR_AVIC_ENABLE));
	REQUIRE(!(control->nested_ctl & ~(NESTED_CTL_NP | NESTED_CTL_GMET)) && (!(control->nested_ctl & NESTED_CTL_NP) || (host->cr0 & CR0_PG)));
	REQUIRE(!(control->nested_ctl & NESTED_CTL_NP) || !(control->nested_cr3 >> v->model.maxphyaddr));
	REQUIRE((host->cr0 & CR0_PE) && (host->efer & EFER_SVME));
	REQUIRE(!v->smm && !(v->nested->vmcb12_gpa & PAGE_OFFSET_MASK) && !(v->nested->vmcb12_gpa >> v->model.maxphyaddr));
}

static void check_nested(struct guest *g)
{
	const struct vcpu *v = g->v;
	const struct nested *n = v->nested;
	struct more *more = g->more;
	REQUIRE(n->control_valid == v->guest_mode && !n->save_valid && !n->exit.pending);
	REQUIRE(is_poison(&n->save, sizeof(n->save)) && (v->guest_mode || is_poison(&n->control, sizeof(n->control))));
	REQUIRE(v->guest_mode || !v->nested_tsc_offset);
	if (v->guest_mode)
		check_guest_mode(v);
	if (more->in_guest && !v->guest_mode)
		note_exit(g, more);
	more->in_guest = v->guest_mode;
	more->vmcb = n->vmcb12_gpa;
}

/* ---- digests ------------------------------------------------------------------------------------------------------------ */

static void digest_nested(const struct vcpu *v, struct digest *digest)
{
	struct svm_image image;
	svm_get_image(v, &image);
	digest_number(digest, image.guest_mode);
	digest_number(digest, image.gif);
	if (image.guest_mode) {
		digest_number(digest, image.vmcb12_gpa);
		digest_bytes(digest, &image.vmcb, sizeof(image.vmcb));
	}
}

static uint64_t digest_all(struct guest *g)
{
	struct digest digest;
	const uint64_t values[] = {g->io_digest, g->cr8, g->apic_base, g->interrupts, g->v->instructions, g->v->fault_log_count,
				   g->v->reply_count};
	digest_init(&digest);
	vcpu_digest(g->v, &digest);
	digest_nested(g->v, &digest);
	DIGEST(&digest, values);
	for (unsigned id = 0; id < SLOT_COUNT; id++)
		digest_bytes(&digest, g->host[id], slot_size(id));
	return digest_value(&digest);
}

/* ---- events ------------------------------------------------------------------------------------------------------------- */

/* A client takes the state out, changes it, and puts it back. A refusal changes nothing. */
static void exchange(struct guest *g, struct choices *c)
{
	struct svm_image image;
	svm_get_image(g->v, &image);
	if (g->v->smm)
		return;
	bool edited = false;
	for (; choose_yes(c); edited = true) {
		struct nested_edit edit = nested_choose_vmcb_edit(((struct more *)g->more)->plan, c, &image.vmcb);
		memcpy((uint8_t *)&image.vmcb + edit.offset, &edit.value, edit.size);
	}
	if (choose_rarely(c, 8)) {
		image.guest_mode = !image.guest_mode;
		edited = true;
	}
	if (choose_rarely(c, 8))
		image.vmcb12_gpa ^= 1ull << choose(c, 64);
	uint64_t digest = digest_all(g);
	const char *refusal = svm_set_image(g->v, &image);
	REQUIRE(!refusal || digest == digest_all(g));
	*(refusal ? &nested_totals.images_refused : &nested_totals.images_taken) += 1;
	g->foreign |= !refusal && edited;
	((struct more *)g->more)->in_guest = g->v->guest_mode;
}

static void prepare(struct guest *g)
{
	struct vcpu *v = g->v;
	if (!v->vm_hsave_pa)
		v->vm_hsave_pa = NESTED_HIGH + HIGH_HSAVE;
	if (!v->smm)
		v->smbase = NESTED_HIGH;
}

static void nested_event(struct guest *g, struct choices *c)
{
	switch (choose(c, 8)) {
	case 0: case 1:
		nested_totals.smis++;
		vcpu_raise_smi(g->v);
		break;
	case 2: vcpu_raise_nmi(g->v); break;
	case 3: g->interrupts += 1 + choose(c, 3); break;
	case 4: g->v->init_pending = true; break;
	case 5: exchange(g, c); break;
	default: store_edit(g, nested_choose_edit(((struct more *)g->more)->plan, c)); break;
	}
}

/* ---- runs --------------------------------------------------------------------------------------------------------------- */

uint64_t nested_run(const struct nested_plan *plan, const struct way *way)
{
	struct more more = {.plan = plan, .script = {.state = plan->script}};
	struct choices events = {.state = ~plan->script};
	struct guest *g = guest_create(&plan->l1, way);
	g->more = &more;
	g->check = check_nested;
	memcpy(g->host[3], plan->high, PLAN_HIGH_SIZE);
	REQUIRE(svm_attach(g->v) && g->v->nested);
	g->v->nested->hooks = (struct svm_hooks){.copied = copied, .guest_read = guest_read, .opaque = g};
	for (unsigned n = 0; n < plan->l1.phase_count; n++) {
		happen(g, &plan->l1.phases[n]);
		prepare(g);
		for (unsigned part = 0; part < 4; part++) {
			if (choose_yes(&events))
				nested_event(g, &events);
			run_phase(g, plan->l1.phases[n].budget / 2 + 1, way->turns);
		}
	}
	uint64_t digest = digest_all(g);
	totals.runs++;
	totals.instructions += g->v->instructions;
	totals.faults += g->v->fault_log_count;
	svm_detach(g->v);
	guest_destroy(g);
	return digest;
}

void nested_try(struct choices *c)
{
	struct nested_plan *plan = malloc(sizeof(*plan));
	REQUIRE(plan);
	nested_plan_make(plan, c);
	struct way way = {plan->l1.mmu, plan->l1.check_interval, (enum turns)(plan->l1.slices % 3)};
	totals.plans++;
	uint64_t digest = nested_run(plan, &way);
	if (plan->script % 4 == 0) {
		REQUIRE(digest == nested_run(plan, &way));
		totals.repeated++;
	}
	free(plan);
}

unsigned nested_codes_seen(void)
{
	unsigned count = 0;
	for (unsigned n = 0; n < ARRAY_LEN(nested_totals.codes); n++)
		count += (unsigned)__builtin_popcountll(nested_totals.codes[n]);
	return count;
}
