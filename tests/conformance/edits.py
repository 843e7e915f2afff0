"""What is changed in the suite before it is built: its own errors, and where it waits longer than it needs to.

No edit makes a point easier for one runtime than for another. Each is a piece of text to find, what takes its place,
and why; one that finds nothing says so.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """``old``, which stands ``times`` times in ``file`` of the suite, becomes ``new``."""

    file: str
    old: str
    new: str
    why: str
    times: int = 1


_UTIL = "validation/util/test.go"
_ONLY = "validation/delete_only_create_resources/delete_only_create_resources.go"
_START = "validation/start/start.go"
_HOOKS = "validation/hooks/hooks.go"
_KILLSIG = "validation/killsig/killsig.go"
_DEVICES = "validation/util/linux_resources_devices.go"
_RUNNING = "util.WaitingForStatus({}, util.LifecycleStatusCreated|util.LifecycleStatusStopped, time.Second*{}, "
_VERSION = """	if v := os.Getenv("OCI_VERSION"); v != "" {
		g.SetVersion(v)
	}
"""
_SET = """				for i := 0; i < 100; i++ {
					if _, err := os.Stat(filepath.Join(rootDir, "set-"+signal)); err == nil {
						break
					}
					time.Sleep(50 * time.Millisecond)
				}
"""
_NOFILE = """if r.Type == "RLIMIT_NOFILE" && r.Soft != r.Hard {
			out, err := exec.Command("/bin/sh", "-c", "ulimit -S -n").Output()
			if err != nil {
				return err
			}
			if rlimit.Cur, err = strconv.ParseUint(strings.TrimSpace(string(out)), 10, 64); err != nil {
				return err
			}
		}
		"""

EDITS = (
    Edit(
        file=_UTIL,
        old="time.Sleep(pollInterval)",
        new="time.Sleep(min(pollInterval, 50*time.Millisecond))",
        why="a state is asked for every second; twenty times a second the whole takes half the time",
    ),
    Edit(
        file="validation/kill/kill.go",
        old=_RUNNING.format("*r", 10),
        new=_RUNNING.format("*r", 3),
        why="a container that is to go on running is watched for ten seconds before it is killed; three will do",
    ),
    Edit(
        file="validation/delete/delete.go",
        old=_RUNNING.format("testRuntime", 10),
        new=_RUNNING.format("testRuntime", 3),
        why="the same",
    ),
    Edit(
        file=_UTIL,
        old="\tg.SetRootPath(",
        new=_VERSION + "\tg.SetRootPath(",
        why="it writes the newest ociVersion, which runtimes of older specifications refuse",
    ),
    Edit(
        file="validation/create/create.go",
        old='\t"os/exec"\n',
        new='\t"os"\n\t"os/exec"\n',
        why="the same",
    ),
    Edit(
        file="validation/create/create.go",
        old="\tg.SetRootPath(",
        new=_VERSION + "\tg.SetRootPath(",
        why="the same",
    ),
    Edit(
        file=_UTIL,
        old='os.MkdirTemp("", "ocitest")\n',
        new='os.MkdirTemp("", "ocitest")\n\tif err == nil {\n\t\terr = os.Chmod(bundleDir, 0o755)\n\t}\n',
        why="a bundle of mode 0700 is closed to root of a user namespace, whose root file system it holds",
    ),
    Edit(
        file="cgroups/cgroups.go",
        old='AbsCgroupPath = "/cgrouptest"',
        new='AbsCgroupPath = "/" + os.Getenv("OCI_CGROUP")',
        why="two programs at once would use one cgroup",
    ),
    Edit(
        file="cgroups/cgroups.go",
        old='RelCgroupPath = "testdir/cgrouptest/container"',
        new='RelCgroupPath = os.Getenv("OCI_CGROUP") + "/container"',
        why="the same",
    ),
    Edit(
        file=_ONLY,
        old='filepath.Join(cgPath, "pids", "cgrouptest")',
        new='filepath.Join(cgPath, "pids", os.Getenv("OCI_CGROUP"))',
        why="the same",
    ),
    Edit(
        file=_ONLY,
        old="defer os.RemoveAll(testPath)",
        new="defer os.Remove(testPath)",
        why="files of a cgroup cannot be removed one by one, so the directory stayed",
    ),
    Edit(
        file="validation/util/linux_resources_pids.go",
        old="lpd.Limit == config.Linux.Resources.Pids.Limit",
        new="*lpd.Limit == *config.Linux.Resources.Pids.Limit",
        why="it compares where two numbers lie, not what they are",
    ),
    Edit(
        file=_DEVICES,
        old="if lnd[i-1].Type == device.Type && *lnd[i-1].Major == *device.Major && *lnd[i-1].Minor == *device.Minor "
        "&& lnd[i-1].Access == device.Access {",
        new="for _, got := range lnd {\n\t\t\t\tfound = found || got.Type == device.Type && "
        "*got.Major == *device.Major && *got.Minor == *device.Minor && got.Access == device.Access\n\t\t\t}\n"
        "\t\t\tif found {",
        why="the kernel's list of devices is a set, and runtimes add default devices to it; it asks for a place in it",
    ),
    Edit(
        file=_DEVICES,
        old="for i, device := range",
        new="i := 1 // what the words of a point show\n\tfor _, device := range",
        why="the same",
    ),
    Edit(
        file="validation/util/linux_resources_memory.go",
        old='t.Ok(*lm.Kernel == *config.Linux.Resources.Memory.Kernel, "memory kernel is set correctly")',
        new='t.Skip(1, "memory kernel: Linux 5.16 and later take no such limit")',
        why="memory.kmem.limit_in_bytes cannot be set any more, and the specification calls it obsolete",
    ),
    Edit(
        file=_HOOKS,
        old="\tvar output string\n\tconfig := util.LifecycleConfig{",
        new="\tvar output string\n\tbundleDir, err := util.PrepareBundle()\n\tif err != nil {\n\t\tutil.Fatal(err)\n"
        "\t}\n\tdefer os.RemoveAll(bundleDir)\n\tconfig := util.LifecycleConfig{\n\t\tBundleDir: bundleDir,",
        why="it reads what its hooks wrote when the bundle, and that with it, has been removed",
    ),
    Edit(
        file=_HOOKS,
        old="err := util.RuntimeLifecycleValidate",
        new="err = util.RuntimeLifecycleValidate",
        why="the same",
    ),
    Edit(
        file=_HOOKS,
        old=r"post-start1\npost-start2\npost-stop1\npost-stop2\n",
        new=r"post-start1 called\npost-start2 called\npost-stop1 called\npost-stop2 called\n",
        why="it expects other words than its hooks write",
    ),
    Edit(
        file=_HOOKS,
        old="\t} else {\n\t\tdiagnostic",
        new="\t} else if err != nil {\n\t\tdiagnostic",
        why="without an error it asks the error for its words, and crashes",
    ),
    Edit(
        file=_KILLSIG,
        old='%s; sleep 10 & wait $!", signal, signal)',
        new='%s; sleep 10 & : >/set-%s; wait $!", signal, signal, signal)',
        why="it sends a signal before the program has said what to do with it",
    ),
    Edit(
        file=_KILLSIG,
        old="\t\t\t\terr = r.Kill(",
        new=_SET + "\t\t\t\terr = r.Kill(",
        why="the same",
    ),
    Edit(
        file="validation/poststart/poststart.go",
        old="echo 'post-start called'",
        new="sleep 1; echo 'post-start called'",
        why="hook and program run at once, so which writes first is luck",
    ),
    Edit(
        file="validation/misc_props/misc_props.go",
        old="\tannotationConfig.AddAnnotation(",
        new='\tannotationConfig.SetProcessArgs([]string{"true"})\n\tannotationConfig.AddAnnotation(',
        why="its bundle lacks the program that it names, which is another failure than the one it asks for",
    ),
    Edit(
        file="validation/misc_props/misc_props.go",
        old="\tinvalidConfig.SetVersion(",
        new='\tinvalidConfig.SetProcessArgs([]string{"true"})\n\tinvalidConfig.SetVersion(',
        why="the same",
    ),
    Edit(
        file="validation/pidfile/pidfile.go",
        old='g.SetProcessArgs([]string{"true"})',
        new='g.SetProcessArgs([]string{"sleep", "30"})',
        why="it kills a container that has ended by itself, and takes the error for the pid file's",
    ),
    Edit(
        file=_START,
        old="err == nil, specerror.NewError(specerror.StartWithProcUnsetGenError",
        new="err != nil, specerror.NewError(specerror.StartWithProcUnsetGenError",
        why="the point says that there must be an error, and fails if there is one",
    ),
    Edit(
        file=_START,
        old="\terr = util.WaitingForStatus(r, util.LifecycleStatusStopped, time.Second*10, time.Second*1)\n"
        "\tif err == nil {\n",
        new='\tr.Kill("KILL")\n'
        "\terr = util.WaitingForStatus(r, util.LifecycleStatusStopped, time.Second*10, time.Second*1)\n"
        "\tif err == nil {\n",
        why="it waits for the end of a container that was not started",
    ),
    Edit(
        file="cmd/runtimetest/main.go",
        old="rfcError, err := c.Ok(rlimit.Cur == r.Soft",
        new=_NOFILE + "rfcError, err := c.Ok(rlimit.Cur == r.Soft",
        why="Go raises its own soft RLIMIT_NOFILE; a program that it starts gets the one of the container back",
    ),
    Edit(
        file="cmd/runtimetest/main.go",
        old='\t"os"\n',
        new='\t"os"\n\t"os/exec"\n',
        why="the same",
    ),
)
