/* The state of nested guests for the client: umbra/nested.h over svm/. */
#include "api/internal.h"

#include <string.h>

#include "svm/svm.h"

_Static_assert(UMBRA_VMCB_SIZE == VMCB_SIZE, "the client's VMCB is the processor's");

void umbra_vcpu_get_nested(const struct umbra_vcpu *vcpu, struct umbra_nested *ret_nested)
{
	struct svm_image image;

	svm_get_image(vcpu->cpu->v, &image);
	memset(ret_nested, 0, sizeof(*ret_nested));
	ret_nested->flags = (image.guest_mode ? UMBRA_NESTED_GUEST_MODE : 0) | (image.gif ? UMBRA_NESTED_GIF : 0);
	ret_nested->vmcb12 = image.vmcb12_gpa;
	memcpy(ret_nested->vmcb, &image.vmcb, sizeof(ret_nested->vmcb));
}

bool umbra_vcpu_set_nested(struct umbra_vcpu *vcpu, const struct umbra_nested *nested, struct umbra_error *error)
{
	struct svm_image image = {
		.guest_mode = nested->flags & UMBRA_NESTED_GUEST_MODE,
		.gif = nested->flags & UMBRA_NESTED_GIF,
		.vmcb12_gpa = nested->vmcb12,
	};

	if (!api_at_rest(vcpu->vm, "nested state", error))
		return false;
	if ((nested->flags & ~(UMBRA_NESTED_GUEST_MODE | UMBRA_NESTED_GIF)) || nested->zero)
		return api_refuse(error, "nested state: flags %#x do not exist", nested->flags);
	memcpy(&image.vmcb, nested->vmcb, sizeof(image.vmcb));
	API_ENTER(vcpu->vm, return api_refuse(error, "%s", vcpu->vm->machine->end.text));
	const char *wrong = svm_set_image(vcpu->cpu->v, &image);
	if (!wrong)
		api_drop_answers(vcpu);
	API_LEAVE();
	return !wrong || api_refuse(error, "nested state: %s", wrong);
}
