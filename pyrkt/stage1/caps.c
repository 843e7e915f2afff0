/* capabilities(7), as masks. */
#include "stage1.h"

#include <linux/capability.h>
#include <linux/prctl.h>

enum { MOST_CAPS = 64 };

long bound_caps(u64 mask)
{
	for (int cap = 0; cap < MOST_CAPS; cap++) {
		if (mask >> cap & 1)
			continue;
		long has = sys(__NR_prctl, PR_CAPBSET_READ, cap, 0, 0, 0);
		if (has == -EINVAL)
			break; /* beyond the last that the kernel knows */
		if (has == 0)
			continue;
		long r = sys(__NR_prctl, PR_CAPBSET_DROP, cap, 0, 0, 0);
		if (r < 0)
			return r;
	}
	return 0;
}

long set_caps(u64 effective, u64 permitted, u64 inheritable, u64 ambient)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2];
	for (int half = 0; half < 2; half++)
		data[half] = (struct __user_cap_data_struct){.effective = (u32)(effective >> 32 * half),
							     .permitted = (u32)(permitted >> 32 * half),
							     .inheritable = (u32)(inheritable >> 32 * half)};
	sys(__NR_prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	long r = sys(__NR_capset, &head, data);
	self.detail = AT_AMBIENT;
	for (int cap = 0; r >= 0 && cap < MOST_CAPS; cap++)
		if (ambient >> cap & 1)
			r = sys(__NR_prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, cap, 0, 0);
	return r;
}

long step_CAPS_BOUND(const struct step *step)
{
	return bound_caps((u64)step_number(step, 0));
}

long step_CAPS(const struct step *step)
{
	self.detail = NOWHERE;
	return set_caps((u64)step_number(step, 0), (u64)step_number(step, 1), (u64)step_number(step, 2),
			(u64)step_number(step, 3));
}
