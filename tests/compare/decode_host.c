/*
 * Compares the decoder with the processor that runs this program: for every opcode of every map, ModRM byte and prefix set, in 64-, 32- and
 * 16-bit code, the bytes are put at the end of an executable page behind which nothing can be executed. An instruction of n bytes, by the
 * decoder, must not want a byte of the next page when its n bytes stand there, and must want one when its last byte is missing. What
 * the decoder refuses must be an invalid opcode to the host. Differences must be in decode_host_reviewed.def.
 *
 * Left out are the instructions that would act on this process: system calls, software interrupts, new bases of FS and GS, protection keys,
 * waiting, hypercalls; and segment overrides to FS and GS.
 *
 * Usage: decode_host [--every N]: only every Nth encoding (default 1).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../host/host_model.h"
#include "native_run.h"

#if defined(__x86_64__) && defined(__linux__)
#include <cpuid.h>
#include <sys/mman.h>

#include "cpu/cpuid.h"
#include "insn/decode.h"
#include "insn/operand.h"
#include "insn_rows.h"

#define CODE 0x100000u
#define END (CODE + PAGE_SIZE)
#define SCRATCH 0x200000u
#define SCRATCH_SIZE 0x100000u
#define POINTER (SCRATCH + SCRATCH_SIZE / 2 + 0x2340u)
#define FETCH 0x10u

enum { VECTOR_DB = 1, VECTOR_UD = 6, VECTOR_PF = 14 };

enum finding { AGREES, HOST_REFUSES, HOST_ACCEPTS, HOST_SHORTER, HOST_LONGER, FINDING_COUNT };
static const char *const finding_names[] = {"agrees", "the host refuses", "the host accepts", "the host's is shorter", "the host's is longer"};

/* map, opcodes, modes (1 << enum insn_mode), and why. */
static const struct review {
	enum finding finding;
	uint8_t map, first, last, modes;
	const char *reason;
} reviewed[] = {
#define IN_ALL 7
#define IN_64 4
#define NOT_64 3
#include "decode_host_reviewed.def"
	{.reason = NULL}, /* the end; the list may be empty */
};

struct probe {
	uint8_t *store; /* where stores to the code page are made */
	struct decode_env env[3];
	uint16_t selectors[3];
	bool printed[FINDING_COUNT][3][INSN_MAP_COUNT][256]; /* one example of each kind is enough */
	unsigned long compared, valid, findings[FINDING_COUNT], hits[sizeof(reviewed) / sizeof(reviewed[0])], different, every, number;
};

/* ---- the host ------------------------------------------------------------------------------------------------------------- */

/* Runs with the first n bytes at the end of the page. */
static void run_at_end(struct probe *p, const uint8_t *bytes, unsigned n, unsigned mode, struct native_state *ret_out)
{
	static struct native_state in;
	for (unsigned r = 0; r < 16; r++)
		in.gpr[r] = POINTER;
	in.gpr[REG_RCX] = POINTER & ~0xffull; /* shifts and repeats that do little */
	in.rip = mode == INSN_MODE_16 ? PAGE_SIZE - n : END - n;
	in.rflags = 2;
	in.compatibility = mode != INSN_MODE_64;
	in.selector = p->selectors[mode];
	in.single_step = true;
	memcpy(p->store + PAGE_SIZE - n, bytes, n);
	native_run(&in, ret_out);
}

/*
 * The fetch of the instruction's own bytes failed. An instruction that completed without the trap, because the kernel emulates it (SGDT with
 * UMIP) or because it hid the trap flag, fails in the same place, but at the next instruction.
 */
static bool wants_more(const struct native_state *out, unsigned mode)
{
	uint64_t end = mode == INSN_MODE_16 ? PAGE_SIZE : END;
	return out->vector == VECTOR_PF && (out->error & FETCH) && out->cr2 == END && out->rip != end;
}

/* ---- what may be run -------------------------------------------------------------------------------------------------------- */

/* map is the legacy map of the opcode; modrm may be any byte. */
static bool acts_on_the_process(unsigned map, unsigned opcode, unsigned modrm)
{
	unsigned reg = modrm >> 3 & 7;
	if (map == INSN_MAP_1B)
		return opcode == 0xcd || opcode == 0xcc || opcode == 0xf1 || opcode == 0x9a || opcode == 0xea || opcode == 0x0f ||
		       (opcode == 0x8e && (reg == 4 || reg == 5)) || opcode == 0xc5 || opcode == 0xc4 || opcode == 0xce;
	if (map != INSN_MAP_0F)
		return false;
	if (opcode == 0x01 && modrm >= 0xc0) /* VMCALL and its neighbours, WRPKRU, MONITORX, MWAITX, and so on */
		return !(modrm == 0xd0 || modrm == 0xd1 || modrm == 0xd5 || modrm == 0xee || modrm == 0xf9 || reg == 4 || reg == 6);
	return opcode == 0x05 || opcode == 0x34 || opcode == 0x07 || opcode == 0x35 || opcode == 0xa1 || opcode == 0xa9 || opcode == 0xb4 ||
	       opcode == 0xb5 || opcode == 0xb2 || opcode == 0x38 || opcode == 0x3a || opcode == 0x0f ||
	       (opcode == 0xae && modrm >= 0xc0 && (reg == 2 || reg == 3 || reg == 5 || reg == 6)) || (opcode == 0xae && modrm < 0xc0);
}

/* An invalid opcode by its definition, or, as RSM, everywhere but where no program runs. */
static bool is_always_invalid(unsigned op)
{
	return op == OP_UD0 || op == OP_UD1 || op == OP_UD2 || op == OP_RSM;
}

/* ---- comparison --------------------------------------------------------------------------------------------------------------- */

static enum finding compare(struct probe *p, const uint8_t *bytes, unsigned mode, struct insn *ret_insn)
{
	struct native_state out;
	if (insn_decode(&p->env[mode], bytes, INSN_MAX_LENGTH, ret_insn) != DECODE_OK) {
		run_at_end(p, bytes, INSN_MAX_LENGTH, mode, &out);
		return out.vector == VECTOR_UD ? AGREES : HOST_ACCEPTS;
	}
	p->valid++;
	run_at_end(p, bytes, ret_insn->length, mode, &out);
	if (wants_more(&out, mode))
		return HOST_LONGER;
	if (out.vector == VECTOR_UD)
		return is_always_invalid(insn_rows[ret_insn->row].op) ? AGREES : HOST_REFUSES;
	if (ret_insn->length > 1) {
		run_at_end(p, bytes, ret_insn->length - 1u, mode, &out);
		if (!wants_more(&out, mode))
			return HOST_SHORTER;
	}
	return AGREES;
}

static bool is_reviewed(struct probe *p, enum finding finding, unsigned map, unsigned opcode, unsigned mode)
{
	for (size_t n = 0; reviewed[n].reason; n++)
		if (reviewed[n].finding == finding && reviewed[n].map == map && opcode >= reviewed[n].first && opcode <= reviewed[n].last &&
		    (reviewed[n].modes >> mode & 1)) {
			p->hits[n]++;
			return true;
		}
	return false;
}

static void probe_one(struct probe *p, const uint8_t *bytes, unsigned mode, unsigned map, unsigned opcode)
{
	struct insn insn;
	if (p->number++ % p->every)
		return;
	enum finding finding = compare(p, bytes, mode, &insn);
	p->compared++;
	p->findings[finding]++;
	if (finding == AGREES || is_reviewed(p, finding, map, opcode, mode))
		return;
	p->different++;
	if (p->printed[finding][mode][map][opcode])
		return;
	p->printed[finding][mode][map][opcode] = true;
	printf("%s: mode %u, map %u, opcode %02x:", finding_names[finding], 16u << mode, map, opcode);
	for (unsigned n = 0; n < INSN_MAX_LENGTH; n++)
		printf(" %02x", bytes[n]);
	printf(insn.length ? ", %u bytes to us\n" : "\n", insn.length);
}

/* ---- the sweep ---------------------------------------------------------------------------------------------------------------- */

static const uint8_t tail[] = {0x24, 0x11, 0x22, 0x13, 0x24, 0x15, 0x26, 0x17, 0x28, 0x19, 0x2a, 0x1b, 0x2c, 0x1d, 0x2e};

static void sweep_legacy(struct probe *p, unsigned mode, unsigned map, const uint8_t *prefixes, unsigned prefix_count)
{
	for (unsigned opcode = 0; opcode < 256; opcode++)
		for (unsigned modrm = 0; modrm < 256; modrm++) {
			uint8_t bytes[32];
			unsigned n = prefix_count;
			bool is_prefix = map == INSN_MAP_1B && (((opcode & 0xe7) == 0x26) || (opcode >= 0x64 && opcode <= 0x67) || opcode == 0xf0 ||
								opcode == 0xf2 || opcode == 0xf3 || (mode == INSN_MODE_64 && (opcode & 0xf0) == 0x40));
			if (is_prefix || acts_on_the_process(map, opcode, modrm))
				continue;
			memcpy(bytes, prefixes, prefix_count);
			if (map != INSN_MAP_1B)
				bytes[n++] = 0x0f;
			if (map == INSN_MAP_0F38 || map == INSN_MAP_0F3A)
				bytes[n++] = map == INSN_MAP_0F38 ? 0x38 : 0x3a;
			bytes[n++] = (uint8_t)opcode;
			bytes[n++] = (uint8_t)modrm;
			memcpy(bytes + n, tail, sizeof(tail));
			probe_one(p, bytes, mode, map, opcode);
		}
}

/* VEX: pp, L and W in every combination; vvvv unused (1111), used, and with its top bit only. */
static void sweep_vex(struct probe *p, unsigned mode, unsigned map)
{
	static const uint8_t registers[] = {9, 15, 7};
	for (unsigned opcode = 0; opcode < 256; opcode++)
		for (unsigned last = 0; last < 48; last++) {
			unsigned vvvv = registers[last / 16], low = (last & 7) | (last & 8) << 4;
			for (unsigned modrm = 0; modrm < 256; modrm += modrm < 0xc0 ? 13 : 5) {
				uint8_t bytes[32] = {0xc4, (uint8_t)(0xe0 | (map - INSN_MAP_VEX1 + 1)), (uint8_t)(low | vvvv << 3), (uint8_t)opcode,
						     (uint8_t)modrm};
				memcpy(bytes + 5, tail, sizeof(tail));
				probe_one(p, bytes, mode, map, opcode);
			}
		}
}

/* The two-byte form, legacy prefixes before VEX, and maps that VEX does not have. */
static void sweep_vex_prefixes(struct probe *p, unsigned mode, unsigned opcode)
{
	static const uint8_t prefixes[] = {0x66, 0xf2, 0xf3, 0xf0, 0x67, 0x2e, 0x40, 0x48};
	for (unsigned choice = 0; choice < sizeof(prefixes) * 12; choice++) {
		unsigned map = choice % 3, pp = choice / 3 % 4;
		uint8_t bytes[32] = {prefixes[choice / 12], 0xc4, (uint8_t)(0xe1 + map), (uint8_t)(0x78 | pp), (uint8_t)opcode, 0xc1};
		memcpy(bytes + 6, tail, sizeof(tail));
		if (mode == INSN_MODE_64 || (bytes[0] & 0xf0) != 0x40)
			probe_one(p, bytes, mode, INSN_MAP_VEX1 + map, opcode);
	}
	for (unsigned last = 0xc0; last < 256; last++) {
		uint8_t bytes[32] = {0xc5, (uint8_t)last, (uint8_t)opcode, last & 1 ? 0xc1 : 0x04};
		memcpy(bytes + 4, tail, sizeof(tail));
		probe_one(p, bytes, mode, INSN_MAP_VEX1, opcode);
	}
	for (unsigned map = 4; map < 32; map += 3) {
		uint8_t bytes[32] = {0xc4, (uint8_t)(0xe0 | map), 0x79, (uint8_t)opcode, 0xc1};
		memcpy(bytes + 5, tail, sizeof(tail));
		probe_one(p, bytes, mode, INSN_MAP_VEX3, opcode);
	}
}

/* Gathers: which registers must differ. */
static void sweep_vsib(struct probe *p, unsigned mode)
{
	for (unsigned choice = 0; choice < 4 * 4 * 8 * 16; choice++) {
		unsigned opcode = 0x90 + choice % 4, wl = choice / 4 % 4, reg = choice / 16 % 8, sib = choice / 128 << 2 | 2;
		uint8_t bytes[32] = {0x67}, *at = bytes + (mode == INSN_MODE_16);
		const uint8_t vex[] = {0xc4, 0xe2, (uint8_t)(0x69 | (wl & 1) << 2 | (wl & 2) << 6), (uint8_t)opcode, (uint8_t)(reg << 3 | 4),
				       (uint8_t)sib};
		memcpy(at, vex, sizeof(vex));
		memcpy(at + sizeof(vex), tail, sizeof(tail));
		probe_one(p, bytes, mode, INSN_MAP_VEX2, opcode);
	}
}

static void sweep(struct probe *p, unsigned mode)
{
	static const struct { uint8_t bytes[3]; unsigned count; } sets[] = {
		{{0}, 0}, {{0x66}, 1}, {{0xf3}, 1}, {{0xf2}, 1}, {{0x67}, 1}, {{0x66, 0xf3}, 2}, {{0x66, 0xf2}, 2}, {{0x2e}, 1}, {{0xf0}, 1},
		{{0x48}, 1}, {{0x66, 0x48}, 2}, {{0xf3, 0x48}, 2}, {{0xf2, 0x48}, 2}, {{0x4f}, 1}, {{0x67, 0x41}, 2}, {{0x48, 0x66}, 2},
	};
	const unsigned count = mode == INSN_MODE_64 ? 16 : 9;
	for (unsigned map = INSN_MAP_1B; map <= INSN_MAP_0F3A; map++)
		for (unsigned set = 0; set < count; set++)
			sweep_legacy(p, mode, map, sets[set].bytes, sets[set].count);
	for (unsigned map = INSN_MAP_VEX1; map <= INSN_MAP_VEX3; map++)
		sweep_vex(p, mode, map);
	for (unsigned opcode = 0; opcode < 256; opcode++)
		sweep_vex_prefixes(p, mode, opcode);
	sweep_vsib(p, mode);
}

/* ---- setting up --------------------------------------------------------------------------------------------------------------- */

/* The host's vendor, and its features as far as umbra knows them. */
static void host_env(struct decode_env *ret)
{
	uint32_t eax, ebx = 0, ecx, edx;
	*ret = (struct decode_env){0};
	__cpuid(0, eax, ebx, ecx, edx);
	ret->vendor = ebx == 0x756e6547 ? VENDOR_INTEL : VENDOR_AMD;
#define FEATURE(id, name, leaf, subleaf, reg, bit, models) feature_set_to(&ret->features, FEAT_##id, host_has_feature(leaf, subleaf, reg, bit));
#include "arch/feature.def"
#undef FEATURE
	feature_set_to(&ret->features, FEAT_FEP, false);
	feature_set_to(&ret->features, FEAT_LM, true);
	/* Not a bit of CPUID but the vendor's habit. */
	feature_set_to(&ret->features, FEAT_HINT_0D, ret->vendor == VENDOR_INTEL);
}

static bool set_up(struct probe *p)
{
	if (!native_map_code(CODE, PAGE_SIZE, &p->store) || !native_map_data(END, PAGE_SIZE) ||
	    !native_map_data(SCRATCH, SCRATCH_SIZE) || !native_init())
		return false;
	memset((void *)(uintptr_t)SCRATCH, 0x5a, SCRATCH_SIZE);
	for (unsigned mode = 0; mode < 3; mode++) {
		host_env(&p->env[mode]);
		p->env[mode].mode = (enum insn_mode)mode;
	}
	p->selectors[INSN_MODE_16] = native_code16(CODE);
	return true;
}

static bool host_runs(struct probe *p, unsigned mode)
{
	static const uint8_t no_operation[] = {0x90};
	struct native_state out;
	if (mode == INSN_MODE_16 && !p->selectors[mode])
		return false;
	run_at_end(p, no_operation, 1, mode, &out);
	return out.vector == VECTOR_DB;
}

int main(int argc, char **argv)
{
	static struct probe p = {.every = 1};
	if (argc == 3 && !strcmp(argv[1], "--every"))
		p.every = strtoul(argv[2], NULL, 0);
	else if (argc != 1)
		return fprintf(stderr, "usage: decode_host [--every N]\n"), 64;
	if (!p.every || !set_up(&p))
		return printf("decode_host: skipped, the host does not give the addresses\n"), 77;
	for (unsigned mode = 0; mode < 3; mode++) {
		if (host_runs(&p, mode))
			sweep(&p, mode);
		else
			printf("skipped: %u-bit code, the host does not run it\n", 16u << mode);
	}
	for (size_t n = 0; reviewed[n].reason && p.every == 1; n++)
		if (!p.hits[n])
			printf("a reviewed difference did not occur: %s\n", reviewed[n].reason);
	printf("decode_host: %lu encodings, %lu valid; %lu reviewed differences, %lu others\n", p.compared, p.valid,
	       p.compared - p.findings[AGREES] - p.different, p.different);
	return p.different ? 1 : 0;
}

#else
int main(void)
{
	printf("decode_host: skipped, the host is not x86-64 Linux\n");
	return 77;
}
#endif
