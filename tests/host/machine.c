/* Instructions in a machine of one processor at CPL 0, see machine.h. */
#include "machine.h"

#include <stdlib.h>
#include <string.h>

#include "../unit/cpu/fixture.h"
#include "arch/pte.h"
#include "cpu/fpu.h"
#include "host_model.h"
#include "insn_rows.h"

#define HALT 0xf4

struct machine {
	struct fixture *fixture;
	const struct test_code *code;
	unsigned corrupted_op; /* INSN_OP_COUNT: none */
	bool faulted;          /* the run before left other segments behind */
};

struct machine *machine_create(bool host_fpu, struct decode_env *ret_env)
{
	struct machine *machine = calloc(1, sizeof(*machine));
	struct cpu_model model;
	if (!machine)
		return NULL;
	host_model(&model);
	model.host_fpu = host_fpu;
	*ret_env = (struct decode_env){.mode = INSN_MODE_64, .vendor = model.vendor, .features = model.features};
	machine->corrupted_op = INSN_OP_COUNT;
	machine->fixture = fixture_create_model(FIXTURE_LONG, MMU_TDP, &model);
	struct vcpu *v = machine->fixture->v;
	memset(machine->fixture->ram + HOST_SCRATCH, HOST_FILL, HOST_SCRATCH_SIZE);
	fixture_map(machine->fixture, HOST_SCRATCH + HOST_SCRATCH_SIZE, 0);
	v->cr0 = (v->cr0 & ~(CR0_EM | CR0_TS)) | CR0_MP | CR0_NE;
	v->cr4 |= CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_OSXSAVE;
	v->fpu->xcr0 = XFEATURE_X87 | XFEATURE_SSE | XFEATURE_AVX;
	vcpu_registers_changed(v);
	return machine;
}

void machine_destroy(struct machine *machine)
{
	if (machine)
		fixture_destroy(machine->fixture);
	free(machine);
}

void machine_place(struct machine *machine, const struct test_code *code)
{
	uint8_t bytes[32];
	/* What an earlier instruction stored to the end of the scratch memory, outside of the window, is gone on the host as well. */
	memset(machine->fixture->ram + HOST_SCRATCH + HOST_SCRATCH_SIZE - 64, HOST_FILL, 64);
	memset(bytes, HALT, sizeof(bytes));
	memcpy(bytes, code->bytes, code->insn.length);
	fixture_code_at(machine->fixture, HOST_INSTRUCTION, bytes, sizeof(bytes));
	machine->code = code;
}

/* ---- state in and out ----------------------------------------------------------------------------------------------------- */

static void load_extended(struct vcpu *v, const struct host_xsave *x)
{
	struct fpu_state *fpu = v->fpu;
	unsigned top = x->fsw >> FSW_TOP_SHIFT & 7;
	for (unsigned n = 0; n < 16; n++) {
		memcpy(fpu->vector[n], x->xmm[n], 16);
		memcpy(fpu->vector[n] + 16, x->ymm_high[n], 16);
	}
	for (unsigned n = 0; n < 8; n++)
		fpu->st[(top + n) & 7] = (f80){x->st[n].mantissa, x->st[n].exponent};
	fpu->fcw = x->fcw;
	fpu->fsw = x->fsw;
	fpu->ftw = x->ftw;
	fpu->fop = 0;
	fpu->fip = fpu->fdp = 0;
	mxcsr_write(v, x->mxcsr);
	fpu_update_pending(v);
}

static void store_extended(struct vcpu *v, struct host_xsave *ret)
{
	const struct fpu_state *fpu = v->fpu;
	unsigned top = fpu->fsw >> FSW_TOP_SHIFT & 7;
	for (unsigned n = 0; n < 16; n++) {
		memcpy(ret->xmm[n], fpu->vector[n], 16);
		memcpy(ret->ymm_high[n], fpu->vector[n] + 16, 16);
	}
	for (unsigned n = 0; n < 8; n++) {
		ret->st[n].mantissa = fpu->st[(top + n) & 7].mantissa;
		ret->st[n].exponent = fpu->st[(top + n) & 7].exponent;
	}
	ret->fcw = fpu->fcw;
	ret->fsw = fpu->fsw;
	ret->ftw = fpu->ftw;
	ret->mxcsr = mxcsr_read(v);
}

static void load(struct machine *machine, const struct host_state *in, bool extended)
{
	struct vcpu *v = machine->fixture->v;
	if (machine->faulted)
		fixture_set_user(machine->fixture, false);
	memcpy(v->gpr, in->gpr, sizeof(in->gpr));
	v->rip = HOST_INSTRUCTION;
	v->halted = false;
	v->cr2 = 0;
	vcpu_set_rflags(v, in->rflags);
	memcpy(machine->fixture->ram + HOST_WINDOW, in->window, HOST_WINDOW_SIZE);
	if (extended)
		load_extended(v, &in->xsave);
}

static bool store(struct machine *machine, bool extended, struct host_state *ret)
{
	struct vcpu *v = machine->fixture->v;
	struct fixture_frame frame;
	memcpy(ret->gpr, v->gpr, sizeof(ret->gpr));
	memcpy(ret->window, machine->fixture->ram + HOST_WINDOW, HOST_WINDOW_SIZE);
	if (extended)
		store_extended(v, &ret->xsave);
	ret->vector = HOST_COMPLETED;
	ret->error = 0;
	ret->rip = HOST_INSTRUCTION;
	ret->cr2 = v->cr2;
	ret->rflags = vcpu_rflags(v);
	machine->faulted = v->rip != HOST_INSTRUCTION + machine->code->insn.length + 1;
	if (!machine->faulted)
		return true;
	if (!fixture_frame(machine->fixture, &frame))
		return false;
	ret->gpr[REG_RSP] = frame.rsp;
	ret->rip = frame.rip;
	ret->rflags = frame.rflags;
	ret->vector = frame.vector;
	ret->error = frame.error;
	return true;
}

/* The seeded fault: one bit of whatever the instruction changed first, of a register if it changed nothing. */
static void corrupt(const struct host_state *in, struct host_state *out)
{
	uint64_t sum = 0;
	for (unsigned n = 0; n < 16; n++)
		sum += in->gpr[n] + in->xsave.xmm[n][0] + in->xsave.st[n & 7].mantissa;
	if ((hash_mix(sum) & 7) != 0 || out->vector != HOST_COMPLETED)
		return;
	for (unsigned n = 0; n < 16; n++)
		if (out->gpr[n] != in->gpr[n]) {
			out->gpr[n] ^= 4;
			return;
		}
	for (unsigned n = 0; n < 16; n++)
		if (memcmp(out->xsave.xmm[n], in->xsave.xmm[n], 16)) {
			out->xsave.xmm[n][3] ^= 1;
			return;
		}
	if (memcmp(out->window, in->window, HOST_WINDOW_SIZE))
		out->window[HOST_WINDOW_SIZE - 1] ^= 1;
	else if (out->xsave.fsw != in->xsave.fsw)
		out->xsave.st[0].mantissa ^= 1;
	else if (in->rflags != out->rflags)
		out->rflags ^= FLAG_CF;
	else
		out->gpr[REG_RAX] ^= 4;
}

unsigned machine_corrupt(struct machine *machine, uint64_t seed, const uint16_t *rows, unsigned row_count)
{
	machine->corrupted_op = insn_rows[rows[hash_mix(seed) % row_count]].op;
	return machine->corrupted_op;
}

bool machine_run(struct machine *machine, const struct host_state *in, bool extended, bool stepped, struct host_state *ret_out)
{
	load(machine, in, extended);
	if (fixture_run_to_halt(machine->fixture, stepped ? 1 : 1000) != RUN_HALT || !store(machine, extended, ret_out))
		return false;
	if (machine->code->row->op == machine->corrupted_op)
		corrupt(in, ret_out);
	return true;
}
