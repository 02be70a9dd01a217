"""muster devices over a scripted driver and a recorded /sys and /proc."""
import json
import os
import pathlib
import tempfile

from _case import MUSTER, ROOT, Skip, case, finish, muster

FAKES = pathlib.Path(MUSTER).resolve().parent / "tests/probe"
SCRIPTS = ROOT / "tests/probe/nvml"


def fake(script, root="/nonexistent"):
    """The environment in which the driver follows the script."""
    if not (FAKES / "libnvidia-ml.so.1").exists():
        raise Skip("the scripted driver was not built")
    return {"LD_LIBRARY_PATH": f"{FAKES}:{os.environ.get('LD_LIBRARY_PATH', '')}",
            "MUSTER_NVML_FAKE": str(SCRIPTS / script), "MUSTER_ROOT": root}


def recorded(folder, kmsg=""):
    """A small recorded machine below the folder."""
    files = {
        "proc/cpuinfo": "model name\t: Recorded CPU\n",
        "proc/meminfo": "MemTotal: 1048576 kB\nMemAvailable: 524288 kB\n",
        "proc/uptime": "1000.50 12.00\n",
        "proc/4242/stat": "4242 (vllm worker) Z 1 1\n",
        "sys/fs/cgroup/memory.max": "536870912\n",
        "sys/fs/cgroup/memory.current": "268435456\n",
        "sys/fs/cgroup/cpu.max": "150000 100000\n",
        "sys/class/thermal/thermal_zone0/temp": "41000\n",
        "sys/class/thermal/thermal_zone1/temp": "67000\n",
        "sys/class/powercap/intel-rapl:0/energy_uj": "5000000\n",
        "sys/class/powercap/intel-rapl:1/energy_uj": "2500000\n",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "2000000\n",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_max_freq": "3500000\n",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "powersave\n",
        "sys/devices/pci0000:00/0000:00:01.0/max_link_width": "8\n",
        "sys/devices/pci0000:00/0000:00:01.0/max_link_speed": "16.0 GT/s PCIe\n",
        "sys/devices/pci0000:00/0000:00:01.0/0000:10:00.0/numa_node": "1\n",
        "sys/devices/pci0000:00/0000:00:01.0/0000:10:00.0/local_cpulist": "32-63\n",
        "sys/devices/pci0000:00/0000:00:01.0/0000:10:00.0/iommu_group/devices/0000:10:00.0": "",
        "sys/devices/pci0000:00/0000:00:01.0/0000:10:00.0/iommu_group/devices/0000:10:00.1": "",
        "dev/kmsg": kmsg,
    }
    for name, text in files.items():
        path = pathlib.Path(folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    link = pathlib.Path(folder, "sys/bus/pci/devices/0000:10:00.0")
    link.parent.mkdir(parents=True)
    link.symlink_to("../../../devices/pci0000:00/0000:00:01.0/0000:10:00.0")
    return folder


@case
def eight_gpus_and_their_matrix():
    out, _ = muster("devices", "--require", "0,7", env=fake("h100x8"))
    assert out.count("NV18") == 56 and "--tensor-parallel-size 8" in out, out
    assert "required GPU 7: available" in out and "0=71GiB,1=71GiB" in out
    d = json.loads(muster("devices", "--json", env=fake("h100x8"))[0])
    assert [x["device"] for x in d["devices"]] == ["cpu"] + [f"cuda:{i}" for i in range(8)]
    assert d["topology"][0][1] == "NV18" and d["recommended"]["tensor_parallel"] == 8
    assert d["devices"][1]["power_w"] == 412 and d["devices"][1]["fan_percent"] is None
    assert d["devices"][1]["absent"]["fan_percent"] == "not supported by this device"


@case
def the_energy_benchmark_gets_a_whole_file():
    keys = ["name", "output_dir", "backend", "scenario", "metrics", "reporter"]
    out, _ = muster("devices", "--yaml", env=fake("dead"))
    assert [line.partition(":")[0] for line in out.splitlines() if line[0] != " "] == keys, out
    assert "\n  device: cuda\n  device_ids: [0, 1, 3]\n" in out
    assert "\n  max_memory: {0: 71GiB, 1: 71GiB, 3: 71GiB}\n" in out
    out, _ = muster("devices", "--yaml", env={"MUSTER_NVML": "/nonexistent.so"})
    assert "\n  device: cpu\n  model:" in out and "max_memory" not in out


@case
def what_cannot_be_used_is_named_with_its_reason():
    out, _ = muster("devices", "--require", "0,2", status=1, env=fake("dead"))
    assert "required GPU 2: not available, the GPU is lost" in out and "GPU 0: available" in out
    assert "--tensor-parallel-size 2" in out and "CUDA_VISIBLE_DEVICES=0,1,3" in out
    out, _ = muster("devices", "--require", "0", status=1, env=fake("mig"))
    assert "cut into MIG slices" in out and "CUDA_VISIBLE_DEVICES=GPU-" in out
    muster("devices", "--require", "9", status=1, env=fake("h100x8"))
    muster("devices", "--require", "0,x", status=2, env=fake("h100x8"))
    out, _ = muster("devices", "--require", "0", status=1, env={"MUSTER_NVML": "/nonexistent.so"})
    assert "no NVIDIA driver, /nonexistent.so" in out


@case
def rubbish_is_absent_and_reaches_no_terminal():
    out, _ = muster("devices", env=fake("rubbish"))
    assert "its memory cannot be read" in out and out.isascii() and out.replace("\n", "").isprintable()


@case
def a_recorded_machine_stands_in():
    with tempfile.TemporaryDirectory() as folder:
        kmsg = ("6,1,500000,-;something else\n"
                "4,2,900500000,-;NVRM: Xid (PCI:0000:10:00): 79, pid=1, GPU has fallen off the bus.\n")
        env = fake("h100x8", recorded(folder))
        pathlib.Path(folder, "dev/kmsg").write_text(kmsg.splitlines()[1] + "\n")
        d = json.loads(muster("devices", "--json", env=env)[0])
        assert "\nthe IOMMU is on; devices in the group of GPU 0: 2\n" in muster("devices", env=env)[0]
    cpu, gpu = d["devices"][:2]
    assert cpu["name"] == "Recorded CPU" and cpu["temperature_c"] == 67 and cpu["energy_j"] == 7.5
    assert cpu["memory_bytes"] == 512 << 20 and cpu["available_bytes"] == 256 << 20
    assert cpu["cgroup_cpus"] == 1.5 and cpu["clock_mhz"] == 2000 and cpu["governor"] == "powersave"
    assert gpu["numa_node"] == 1 and gpu["cpus_near"] == "32-63" and gpu["iommu_group_size"] == 2
    assert gpu["slot_width"] == 8 and gpu["slot_gt_s"] == 16
    assert gpu["processes"][0]["name"] == "vllm worker" and gpu["processes"][0]["state"] == "Z"
    assert d["xids"] == [{"xid": 79, "device": "cuda:0", "bus_id": "0000:10:00", "age_s": 100.0,
                          "line": "NVRM: Xid (PCI:0000:10:00): 79, pid=1, GPU has fallen off the bus."}]


finish()
