/* rtnetlink(7): a network device of the host goes into the container's network namespace, and takes its addresses along.
 *
 * The kernel forgets the addresses on the way.  Those that somebody gave it and that are valid everywhere are given to
 * it again; what it got by itself, or for a time, or for the link alone, belongs to the network it has left.
 */
#include "stage1.h"

#include <linux/if.h>
#include <linux/rtnetlink.h>
#include <linux/sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

enum { MOST_ADDRESSES = 128, LONGEST_ADDRESS = 16, KEPT_ATTRIBUTES = IFA_BROADCAST + 1 };

struct address {
	u8 family, prefix;
	u8 size[KEPT_ATTRIBUTES]; /* by attribute; 0: has none */
	u8 bytes[KEPT_ATTRIBUTES][LONGEST_ADDRESS];
};

struct request {
	struct nlmsghdr head;
	union {
		struct ifinfomsg link;
		struct ifaddrmsg address;
	} body;
	u8 attributes[128];
};

static struct address addresses[MOST_ADDRESSES];
static u8 answer[16384] __attribute__((aligned(8)));

static long open_socket(void)
{
	return sys(__NR_socket, AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
}

/* Puts a socket into the child's network namespace; the supervisor is back in its own when this returns. */
static long open_socket_there(void)
{
	long own = sys_open(self.proc, "self/ns/net", O_RDONLY, 0);
	if (own < 0)
		return own;
	long fd = sys(__NR_setns, self.child_fd, CLONE_NEWNET);
	if (fd >= 0) {
		fd = open_socket();
		long back = sys(__NR_setns, own, CLONE_NEWNET);
		if (back < 0) {
			sys_close(fd);
			fd = back;
		}
	}
	sys_close(own);
	return fd;
}

static void add_attribute(struct request *request, u16 type, const void *data, size_t size)
{
	struct rtattr *at = (struct rtattr *)(void *)((u8 *)request + NLMSG_ALIGN(request->head.nlmsg_len));
	if (NLMSG_ALIGN(request->head.nlmsg_len) + RTA_LENGTH(size) > sizeof *request)
		return; /* as the plan's names and LONGEST_ADDRESS are, it never is */
	at->rta_type = type;
	at->rta_len = (u16)RTA_LENGTH(size);
	memcpy(RTA_DATA(at), data, size);
	request->head.nlmsg_len = (u32)(NLMSG_ALIGN(request->head.nlmsg_len) + RTA_LENGTH(size));
}

static struct request begin(u16 type, u16 flags, size_t body)
{
	struct request request;
	memset(&request, 0, sizeof request);
	request.head =
		(struct nlmsghdr){.nlmsg_type = type, .nlmsg_flags = (u16)(NLM_F_REQUEST | flags), .nlmsg_len = (u32)NLMSG_LENGTH(body)};
	return request;
}

static long ask(long fd, const struct request *request)
{
	long r = sys(__NR_sendto, fd, request, request->head.nlmsg_len, 0, NULL, 0);
	return r < 0 ? r : sys(__NR_recvfrom, fd, answer, sizeof answer, 0, NULL, NULL);
}

static long ask_to_act(long fd, const struct request *request)
{
	long size = ask(fd, request);
	const struct nlmsghdr *head = (const struct nlmsghdr *)(const void *)answer;
	if (size < 0)
		return size;
	if (size < (long)NLMSG_LENGTH(sizeof(struct nlmsgerr)) || head->nlmsg_type != NLMSG_ERROR)
		return -EBADMSG;
	return ((const struct nlmsgerr *)NLMSG_DATA(head))->error;
}

static bool is_of_note(const struct ifaddrmsg *found, i32 device)
{
	return (i32)found->ifa_index == device && found->ifa_flags & IFA_F_PERMANENT &&
	       found->ifa_scope == RT_SCOPE_UNIVERSE;
}

static void take_address(const struct nlmsghdr *head, struct address *into)
{
	const struct ifaddrmsg *found = NLMSG_DATA(head);
	const struct rtattr *at = IFA_RTA(found);
	*into = (struct address){.family = found->ifa_family, .prefix = found->ifa_prefixlen};
	for (long rest = (long)IFA_PAYLOAD(head); RTA_OK(at, rest); at = RTA_NEXT(at, rest)) {
		if (at->rta_type >= KEPT_ATTRIBUTES || at->rta_type == IFA_LABEL || RTA_PAYLOAD(at) > LONGEST_ADDRESS)
			continue;
		into->size[at->rta_type] = (u8)RTA_PAYLOAD(at);
		memcpy(into->bytes[at->rta_type], RTA_DATA(at), RTA_PAYLOAD(at));
	}
}

/* Returns how many addresses the device has that go with it. */
static long read_addresses(long fd, i32 device)
{
	struct request request = begin(RTM_GETADDR, NLM_F_DUMP, sizeof(struct ifaddrmsg));
	u32 count = 0;
	for (long size = ask(fd, &request);; size = sys(__NR_recvfrom, fd, answer, sizeof answer, 0, NULL, NULL)) {
		const struct nlmsghdr *head = (const struct nlmsghdr *)(const void *)answer;
		if (size < 0)
			return size;
		for (long rest = size; NLMSG_OK(head, rest); head = NLMSG_NEXT(head, rest)) {
			if (head->nlmsg_type == NLMSG_DONE)
				return count;
			if (head->nlmsg_type == NLMSG_ERROR)
				return ((const struct nlmsgerr *)NLMSG_DATA(head))->error;
			if (head->nlmsg_type != RTM_NEWADDR || !is_of_note(NLMSG_DATA(head), device))
				continue;
			if (count == MOST_ADDRESSES)
				return -E2BIG;
			take_address(head, &addresses[count++]);
		}
	}
}

static long add_address(long fd, i32 device, const struct address *address)
{
	struct request request = begin(RTM_NEWADDR, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, sizeof(struct ifaddrmsg));
	request.body.address = (struct ifaddrmsg){
		.ifa_family = address->family, .ifa_prefixlen = address->prefix, .ifa_index = (u32)device};
	for (u16 type = 0; type < KEPT_ATTRIBUTES; type++)
		if (address->size[type])
			add_attribute(&request, type, address->bytes[type], address->size[type]);
	return ask_to_act(fd, &request);
}

static long find(long fd, const char *name, struct ifreq *device)
{
	memset(device, 0, sizeof *device);
	if (strlen(name) >= IFNAMSIZ)
		return -ENAMETOOLONG;
	memcpy(device->ifr_name, name, strlen(name));
	return sys(__NR_ioctl, fd, SIOCGIFINDEX, device);
}

static long set_up(long fd, const char *name, bool up)
{
	struct ifreq device;
	long r = find(fd, name, &device);
	if (r >= 0)
		r = sys(__NR_ioctl, fd, SIOCGIFFLAGS, &device);
	if (r < 0)
		return r;
	device.ifr_flags = (short)(up ? device.ifr_flags | IFF_UP : device.ifr_flags & ~IFF_UP);
	return sys(__NR_ioctl, fd, SIOCSIFFLAGS, &device);
}

/* New name and new namespace at once: neither place sees it under a name that is not meant for there. */
static long move(long fd, const char *name, const char *new_name, i64 to)
{
	struct request request = begin(RTM_NEWLINK, NLM_F_ACK, sizeof(struct ifinfomsg));
	struct ifreq device;
	u32 pid = (u32)to;
	long r = find(fd, name, &device);
	if (r < 0)
		return r;
	request.body.link = (struct ifinfomsg){.ifi_index = device.ifr_ifindex};
	add_attribute(&request, IFLA_IFNAME, new_name, strlen(new_name) + 1);
	add_attribute(&request, IFLA_NET_NS_PID, &pid, sizeof pid);
	return ask_to_act(fd, &request);
}

static long settle(long fd, const char *name, u32 count, bool up)
{
	struct ifreq device;
	long r = find(fd, name, &device);
	self.detail = AT_ADDRESS;
	for (u32 i = 0; r >= 0 && i < count; i++) {
		r = add_address(fd, device.ifr_ifindex, &addresses[i]);
		if (r == -EEXIST)
			r = 0; /* it never went away */
	}
	if (r >= 0) {
		self.detail = NOWHERE;
		r = set_up(fd, name, up);
	}
	return r;
}

/* The kernel moves first and renames then: of a name that is taken there, the device would end with the container. */
static void bring_back(long here, long there, const struct step *step, u32 count, bool up)
{
	i64 detail = self.detail;
	const char *name = step_text(step, 0);
	if (move(there, step_text(step, 1), name, sys(__NR_getpid)) < 0)
		move(there, name, name, sys(__NR_getpid));
	settle(here, name, count, up);
	self.detail = detail;
}

static long carry(long here, long there, const struct step *step)
{
	struct ifreq device;
	self.detail = AT_SOURCE;
	long r = find(here, step_text(step, 0), &device);
	/* before it goes down, by which it loses those of IPv6 */
	long count = r < 0 ? r : read_addresses(here, device.ifr_ifindex);
	self.detail = NOWHERE;
	if (count < 0)
		return count;
	if (sys(__NR_ioctl, here, SIOCGIFFLAGS, &device) < 0)
		device.ifr_flags = 0;
	r = set_up(here, step_text(step, 0), false);
	if (r >= 0)
		r = move(here, step_text(step, 0), step_text(step, 1), self.child);
	if (r >= 0)
		r = settle(there, step_text(step, 1), (u32)count, true);
	if (r < 0)
		bring_back(here, there, step, (u32)count, device.ifr_flags & IFF_UP);
	return r;
}

long step_NET_DEVICE(const struct step *step)
{
	long here = open_socket(), there = open_socket_there();
	long r = here < 0 ? here : there < 0 ? there : carry(here, there, step);
	sys_close(here);
	sys_close(there);
	return r;
}
