/* The scripts of composed incidents; compose.h says what a script is. */
#ifndef TESTS_HEALTH_SCRIPTS_H
#define TESTS_HEALTH_SCRIPTS_H

enum start { BARE, VLLM, SGLANG, NCCL, NCCL_UP, LLAMA, LLAMA_UP };

struct incident {
    const char *cause;
    enum start start;
    unsigned ranks, stage;
    const char *script[14];
};

#define CORE_DEAD                                                                                  \
    "C EngineCore failed to start.",                                                               \
        "A RuntimeError: Engine core initialization failed. See root cause above. Failed core "    \
        "proc(s): {'EngineCore_DP0': 1}"
#define WORKERS_INIT                                                                               \
    "C Exception: WorkerProc initialization failed due to an exception in a background process. "  \
    "See stack trace for root cause."
#define OOM                                                                                        \
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 1.25 GiB. GPU 1 has a total "   \
    "capacity of 47.40 GiB of which 1.18 GiB is free. Including non-PyTorch memory, this process " \
    "has 46.20 GiB memory in use. Of the allocated memory 45.63 GiB is allocated by PyTorch, and " \
    "120.54 MiB is reserved by PyTorch but unallocated."
#define NOT_DESTROYED                                                                              \
    "r0 [W301 12:01:09.248813923 ProcessGroupNCCL.cpp:1479] Warning: WARNING: "                    \
    "destroy_process_group() was not called before program exit, which can leak resources."
#define SIGQUIT                                                                                    \
    "- [2026-03-01 12:02:00] Received sigquit from a child process. It usually means the child "   \
    "failed."
#define WATCHDOG(r)                                                                                \
    "r" r " [E301 12:12:03.358291284 ProcessGroupNCCL.cpp:632] [Rank " r "] Watchdog caught "      \
    "collective operation timeout: WorkNCCL(SeqNum=1558, OpType=ALLREDUCE, NumelIn=11577920, "     \
    "NumelOut=11577920, Timeout(ms)=600000) ran for 600071 milliseconds before timing out."

#define LOST_PEER(r)                                                                               \
    "r" r " torch.distributed.DistBackendError: NCCL error in: ProcessGroupNCCL.cpp:3356, remote " \
    "process exited or there was a network error, NCCL version 2.26.2"

static const struct incident incidents[] = {
    {"oom_load",
     VLLM,
     4,
     1,
     {"!T2 init_device,load_model,create_weights|" OOM, WORKERS_INIT, CORE_DEAD, NOT_DESTROYED}},
    {"oom_load",
     VLLM,
     2,
     2,
     {"!T1 determine_available_memory,profile_run,_dummy_run|" OOM, WORKERS_INIT, CORE_DEAD}},
    {"oom_graph",
     VLLM,
     2,
     3,
     {"!T1 compile_or_warm_up_model,capture_model,_dummy_run|" OOM, WORKERS_INIT, CORE_DEAD}},
    {"oom_kv",
     VLLM,
     2,
     2,
     {"!T0 initialize_from_config,initialize_kv_cache,_allocate_kv_cache_tensors|" OOM, CORE_DEAD}},
    {"oom_run",
     VLLM,
     4,
     4,
     {"e1 WorkerProc hit an exception.", "e1 Traceback (most recent call last):", "!e1 " OOM,
      "C EngineCore encountered a fatal error.",
      "C RuntimeError: Worker failed with error 'CUDA out of memory. Tried to allocate 1.25 GiB. "
      "GPU 1 has a total capacity of 47.40 GiB of which 1.18 GiB is free.', please check the stack "
      "trace above for the root cause",
      "A ERROR 03-01 12:05:00 [async_llm.py:480] AsyncLLM output_handler failed.",
      "A vllm.v1.engine.exceptions.EngineDeadError: EngineCore encountered an issue. See stack "
      "trace (above) for the root cause.",
      "A INFO:     10.0.0.9:52110 - \"POST /v1/chat/completions HTTP/1.1\" 500 Internal Server "
      "Error"}},
    {"oom_kv",
     VLLM,
     2,
     2,
     {"w0 Available KV cache memory: 0.31 GiB", "C EngineCore failed to start.",
      "C Traceback (most recent call last):",
      "!C ValueError: No available memory for the cache blocks. Try increasing "
      "`gpu_memory_utilization` when initializing the engine.",
      "A RuntimeError: Engine core initialization failed. See root cause above."}},
    {"kv_too_small",
     VLLM,
     1,
     3,
     {"C EngineCore failed to start.", "C Traceback (most recent call last):",
      "!C ValueError: To serve at least one request with the models's max seq len (131072), (16.00 "
      "GiB KV cache is needed, which is larger than the available KV cache memory (9.97 GiB). "
      "Based on the available memory, the estimated maximum model length is 81664.",
      "A RuntimeError: Engine core initialization failed. See root cause above."}},
    {"gpu_busy",
     VLLM,
     4,
     1,
     {"!T3 init_device|ValueError: Free memory on device cuda:3 (13.33/47.40 GiB) on startup is "
      "less "
      "than desired GPU memory utilization (0.9, 42.66 GiB). Decrease GPU memory utilization or "
      "reduce GPU memory used by other processes.",
      WORKERS_INIT, CORE_DEAD}},
    {"gpu_busy",
     SGLANG,
     4,
     1,
     {"s2 Scheduler hit an exception: Traceback (most recent call last):",
      "-   File \"/sgl-workspace/sglang/srt/model_executor/model_runner.py\", line 500, in "
      "init_torch_distributed",
      "!- RuntimeError: The memory capacity is unbalanced. Some GPUs may be occupied by other "
      "processes. min_per_gpu_memory=16.28, local_gpu_memory=46.81, local_gpu_memory * 0.9=42.1",
      SIGQUIT}},
    {"mem_fraction",
     SGLANG,
     2,
     2,
     {"s0 Scheduler hit an exception: Traceback (most recent call last):",
      "!- RuntimeError: Not enough memory. Please try to increase --mem-fraction-static.",
      SIGQUIT}},
    {"oom_graph",
     SGLANG,
     2,
     3,
     {"s0 Capture cuda graph begin. This can take up to several minutes. avail mem=9.10 GB",
      "s0 Scheduler hit an exception: Traceback (most recent call last):",
      "-   File \"/sgl-workspace/sglang/srt/model_executor/cuda_graph_runner.py\", line 300, in "
      "capture",
      "!- torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.31 GiB. GPU 0 has a "
      "total "
      "capacity of 79.10 GiB of which 1.00 GiB is free.",
      "- During handling of the above exception, another exception occurred:",
      "- Exception: Capture cuda graph failed: CUDA out of memory. Tried to allocate 2.31 GiB.",
      "- Possible solutions:", SIGQUIT}},
    {"tp_heads",
     VLLM,
     1,
     0,
     {"A Traceback (most recent call last):",
      "!A pydantic_core._pydantic_core.ValidationError: 1 validation error for VllmConfig",
      "A   Value error, Total number of attention heads (40) must be divisible by tensor parallel "
      "size (3). [type=value_error, input_value=ArgsKwargs((), {'model_co'}), "
      "input_type=ArgsKwargs]"}},
    {"quant_tp_align",
     VLLM,
     4,
     1,
     {"!T0 load_model,create_weights|ValueError: The input size is not aligned with the quantized "
      "weight shape. This can be caused by too large tensor parallel size.",
      WORKERS_INIT, CORE_DEAD}},
    {"quant_tp_align",
     VLLM,
     8,
     1,
     {"!T5 load_model,verify_marlin_supports_shape|ValueError: Weight input_size_per_partition = "
      "1728 is not divisible by min_thread_k = 128. Consider reducing tensor_parallel_size or "
      "running with --quantization gptq.",
      WORKERS_INIT, CORE_DEAD}},
    {"quant_unsupported",
     VLLM,
     1,
     0,
     {"A Traceback (most recent call last):",
      "!A ValueError: The quantization method fp8 is not supported for the current GPU. Minimum "
      "capability: 80. Current capability: 75."}},
    {"dtype_unsupported",
     VLLM,
     2,
     1,
     {"!T0 init_device,_check_if_gpu_supports_dtype|ValueError: Bfloat16 is only supported on GPUs "
      "with compute capability of at least 8.0. Your Tesla T4 GPU has compute capability 7.5.",
      WORKERS_INIT, CORE_DEAD}},
    {"arch_unsupported",
     VLLM,
     2,
     2,
     {"!T1 profile_run,_dummy_run,forward|RuntimeError: CUDA error: no kernel image is available "
      "for execution on the device",
      "e1 CUDA kernel errors might be asynchronously reported at some other API call, so the "
      "stacktrace below might be incorrect.",
      "e1 For debugging consider passing CUDA_LAUNCH_BLOCKING=1", WORKERS_INIT, CORE_DEAD}},
    {"driver_mismatch",
     VLLM,
     1,
     0,
     {"A Traceback (most recent call last):",
      "!A RuntimeError: The NVIDIA driver on your system is too old (found version 12020). Please "
      "update your GPU driver by downloading and installing a new version.",
      "A RuntimeError: Engine core initialization failed. See root cause above."}},
    {"driver_mismatch",
     BARE,
     1,
     0,
     {"!- docker: Error response from daemon: failed to create task for container: "
      "nvidia-container-"
      "cli: requirement error: unsatisfied condition: cuda>=12.8, please update your driver to a "
      "newer version: unknown."}},
    {"env_abi",
     VLLM,
     1,
     0,
     {"- Traceback (most recent call last):",
      "-   File \"/opt/venv/lib/python3.12/site-packages/vllm/__init__.py\", line 12, in <module>",
      "!- ImportError: /opt/venv/lib/python3.12/site-packages/vllm/_C.abi3.so: undefined symbol: "
      "_ZN3c106ivalue14ConstantString6createE"}},
    {"kernel_fault",
     VLLM,
     4,
     4,
     {"e2 WorkerProc hit an exception.", "e2 Traceback (most recent call last):",
      "!e2 torch.AcceleratorError: CUDA error: an illegal memory access was encountered",
      "e2 CUDA kernel errors might be asynchronously reported at some other API call, so the "
      "stacktrace below might be incorrect.",
      "r2 [E301 12:02:03.358291284 ProcessGroupNCCL.cpp:1895] [PG ID 2 PG GUID 3 Rank 2] Process "
      "group watchdog thread terminated with exception: CUDA error: an illegal memory access was "
      "encountered",
      "C EngineCore encountered a fatal error.",
      "A vllm.v1.engine.exceptions.EngineDeadError: EngineCore encountered an issue. See stack "
      "trace (above) for the root cause."}},
    {"bad_env",
     VLLM,
     1,
     0,
     {"- Traceback (most recent call last):", "!- ValueError: VLLM_PORT 'tcp://10.43.12.7:8000' "
                                              "appears to be a URI. This may be caused by a "
                                              "Kubernetes service discovery issue,check the "
                                              "warning in: https://docs.vllm.ai/env_vars.html"}},
    {"bad_args",
     VLLM,
     1,
     0,
     {"- usage: vllm serve [model_tag] [options]",
      "!- vllm: error: unrecognized arguments: --tensor-paralel-size 4"}},
    {"gpu_count",
     VLLM,
     1,
     0,
     {"A Traceback (most recent call last):",
      "!A ValueError: World size (8) is larger than the number of available GPUs (4) in this node. "
      "If this is intentional and you are using: ray, set --distributed-executor-backend ray."}},
    {"gpu_count",
     VLLM,
     4,
     1,
     {"!T3 init_device|torch.AcceleratorError: CUDA error: invalid device ordinal", WORKERS_INIT,
      CORE_DEAD}},
    {"port_in_use",
     VLLM,
     1,
     0,
     {"A Traceback (most recent call last):", "A     sock.bind(addr)",
      "!A OSError: [Errno 98] Address already in use"}},
    {"net_interface",
     NCCL,
     2,
     0,
     {"!n0 bootstrap.cc:78 NCCL WARN Bootstrap : no socket interface found",
      "n0 NCCL INFO misc/socket.cc:700 -> 3", "n0 NCCL INFO init.cc:1500 -> 3",
      "r0 torch.distributed.DistBackendError: NCCL error in: /pytorch/torch/csrc/distributed/c10d/"
      "ProcessGroupNCCL.cpp:3356, internal error, NCCL version 2.26.2",
      "r0 ncclInternalError: Internal check failed."}},
    {"net_unreachable",
     NCCL,
     2,
     0,
     {"!n1 misc/socket.cc:498 NCCL WARN socketStartConnect: Connect to 10.0.0.7<45678> failed : No "
      "route to host",
      "n1 NCCL INFO misc/socket.cc:567 -> 2", "n1 NCCL INFO bootstrap.cc:100 -> 2",
      "r1 torch.distributed.DistBackendError: NCCL error in: /pytorch/torch/csrc/distributed/c10d/"
      "NCCLUtils.hpp:317, unhandled system error (run with NCCL_DEBUG=INFO for details), NCCL "
      "version 2.21.5",
      "r1 ncclSystemError: System call (e.g. socket, malloc) or external library call failed or "
      "device error."}},
    {"nccl_timeout",
     NCCL_UP,
     4,
     0,
     {"!" WATCHDOG("3"), WATCHDOG("0"), WATCHDOG("1"),
      "r3 [E301 12:12:04.358291284 ProcessGroupNCCL.cpp:684] [Rank 3] To avoid data inconsistency, "
      "we are taking the entire process down.",
      "- terminate called after throwing an instance of 'c10::DistBackendError'",
      "- torch.distributed.elastic.multiprocessing.errors.ChildFailedError:"}},
    {"xid_bus",
     NCCL_UP,
     4,
     0,
     {"!k NVRM: Xid (PCI:0000:41:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the "
      "bus.",
      "k NVRM: Xid (PCI:0000:41:00): 154, GPU recovery action changed from 0x0 (None) to 0x2 (Node "
      "Reboot Required)",
      WATCHDOG("0"), WATCHDOG("2"), "r2 RuntimeError: CUDA error: unspecified launch failure"}},
    {"ecc",
     VLLM,
     4,
     4,
     {"!k NVRM: Xid (PCI:0000:41:00): 48, pid=4902, name=python3, An uncorrectable double bit "
      "error "
      "(DBE) has been detected on GPU in the framebuffer at partition 1, subpartition 0.",
      "k NVRM: Xid (PCI:0000:41:00): 45, pid=4902, name=python3, Ch 00000008",
      "e2 WorkerProc hit an exception.",
      "e2 torch.AcceleratorError: CUDA error: uncorrectable ECC error encountered",
      "C EngineCore encountered a fatal error."}},
    {"nccl_p2p",
     NCCL,
     2,
     0,
     {"!n0 transport/p2p.cc:275 NCCL WARN cudaIpcGetMemHandle failed : invalid argument",
      "n0 NCCL INFO transport/p2p.cc:320 -> 1",
      "r0 torch.distributed.DistBackendError: NCCL error in: ProcessGroupNCCL.cpp:3356, unhandled "
      "cuda error (run with NCCL_DEBUG=INFO for details), NCCL version 2.26.2",
      "r0 ncclUnhandledCudaError: Call to CUDA function failed."}},
    {"nccl_shm",
     NCCL,
     4,
     0,
     {"!n3 misc/shmutils.cc:72 NCCL WARN Error: failed to extend /dev/shm/nccl-a1b2c3 to 9637892 "
      "bytes, error: No space left on device (28)",
      "n3 NCCL INFO misc/shmutils.cc:113 -> 2",
      "n3 misc/shmutils.cc:137 NCCL WARN Error while creating shared memory segment /dev/shm/nccl-"
      "a1b2c3 (size 9637888), error: No space left on device (28)",
      "n3 NCCL INFO transport/shm.cc:114 -> 2",
      "n0 misc/socket.cc:49 NCCL WARN socketProgress: Connection closed by remote peer "
      "node-a<41234>",
      "r3 torch.distributed.DistBackendError: NCCL error in: ProcessGroupNCCL.cpp:3356, unhandled "
      "system error (run with NCCL_DEBUG=INFO for details), NCCL version 2.26.2",
      "r0 ncclRemoteError: A call failed possibly due to a network error or a remote process "
      "exiting "
      "prematurely."}},
    {"nccl_ib",
     NCCL_UP,
     2,
     0,
     {"!n1 transport/net_ib.cc:1295 NCCL WARN NET/IB : Got completion from peer 10.0.0.2<45678> "
      "with "
      "status=12 opcode=0 len=0 vendor err 129 (Recv) localGid fe80 remoteGids fe80 hca mlx5_0",
      "n1 NCCL INFO transport/net.cc:1298 -> 6", "n1 NCCL INFO proxy.cc:733 -> 6 [Progress Thread]",
      WATCHDOG("0"), WATCHDOG("1")}},
    {"fabric_manager",
     VLLM,
     1,
     0,
     {"- Traceback (most recent call last):",
      "!- RuntimeError: Unexpected error from cudaGetDeviceCount(). Did you run some cuda "
      "functions "
      "before calling NumCudaDevices() that might have already set an error? Error 802: system not "
      "yet initialized"}},
    {"container_runtime",
     VLLM,
     1,
     0,
     {"A Traceback (most recent call last):",
      "!A RuntimeError: Failed to infer device type, please set the environment variable "
      "`VLLM_LOGGING_LEVEL=DEBUG` to turn on verbose logging to help debug the issue."}},
    {"weights_corrupt",
     VLLM,
     2,
     1,
     {"!T1 load_model,load_weights,safe_open|safetensors_rust.SafetensorError: Error while "
      "deserializing header: incomplete metadata, file not fully covered",
      WORKERS_INIT, CORE_DEAD, NOT_DESTROYED}},
    {"weights_corrupt",
     LLAMA,
     2,
     0,
     {"!- llama_model_load: error loading model: tensor 'blk.41.ffn_down.weight' data is not "
      "within "
      "the file bounds, model is corrupted or incomplete",
      "- llama_model_load_from_file_impl: failed to load model",
      "- common_init_from_params: failed to load model '/models/m.gguf'",
      "- main: exiting due to model loading error"}},
    {"hub_access",
     SGLANG,
     1,
     0,
     {"- Traceback (most recent call last):",
      "!- huggingface_hub.errors.GatedRepoError: 401 Client Error. (Request ID: Root=1-67)",
      "- Access to model meta-llama/Llama-3.1-8B-Instruct is restricted. You must have access to "
      "it "
      "and be authenticated to access it. Please log in.",
      "- The above exception was the direct cause of the following exception:",
      "- OSError: You are trying to access a gated repo."}},
    {"disk_full",
     VLLM,
     1,
     1,
     {"A Traceback (most recent call last):",
      "!A RuntimeError: Data processing error: CAS service error : IO Error: No space left on "
      "device "
      "(os error 28)",
      CORE_DEAD}},
    {"template",
     VLLM,
     1,
     0,
     {"- Traceback (most recent call last):",
      "!- ValueError: As of transformers v4.44, default chat template is no longer allowed, so you "
      "must provide a chat template if the tokenizer does not define one."}},
    {"host_oom_kill",
     VLLM,
     4,
     1,
     {"!k Out of memory: Killed process 4902 (VLLM::Worker_TP) total-vm:98123456kB, "
      "anon-rss:61234567kB, file-rss:0kB, shmem-rss:0kB, UID:0 pgtables:1234kB oom_score_adj:0",
      "C Worker proc VllmWorker-2 died unexpectedly, shutting down executor.", CORE_DEAD}},
    {"proc_died",
     VLLM,
     4,
     4,
     {"!C Worker proc VllmWorker-1 died unexpectedly, shutting down executor.",
      "A vllm.v1.engine.exceptions.EngineDeadError: EngineCore encountered an issue. See stack "
      "trace (above) for the root cause."}},
    {"probe_kill",
     VLLM,
     2,
     1,
     {"w0 Loading weights on 2 ranks", "!- KeyboardInterrupt: terminated",
      "A RuntimeError: Engine core initialization failed. See root cause above."}},
    {"ray",
     VLLM,
     1,
     0,
     {"- Traceback (most recent call last):",
      "!- ConnectionError: Could not find any running Ray instance. Please specify the one to "
      "connect "
      "to by setting `--address` flag or `RAY_ADDRESS` environment variable."}},
    {"oom_load",
     LLAMA,
     2,
     0,
     {"!- ggml_backend_cuda_buffer_type_alloc_buffer: allocating 24102.33 MiB on device 0: "
      "cudaMalloc "
      "failed: out of memory",
      "- alloc_tensor_range: failed to allocate CUDA0 buffer of size 25273122816",
      "- llama_model_load: error loading model: unable to allocate CUDA0 buffer",
      "- llama_model_load_from_file_impl: failed to load model"}},
    {"oom_kv",
     LLAMA,
     2,
     0,
     {"!- ggml_backend_cuda_buffer_type_alloc_buffer: allocating 8192.00 MiB on device 1: "
      "cudaMalloc "
      "failed: out of memory",
      "- alloc_tensor_range: failed to allocate CUDA1 buffer of size 8589934592",
      "- llama_init_from_model: failed to initialize the context: failed to allocate buffer for kv "
      "cache",
      "- main: exiting due to model loading error"}},
    {"nccl_timeout",
     SGLANG,
     8,
     4,
     {"!s4 Watchdog timeout (self.watchdog_timeout=300)",
      "s5 Watchdog timeout (self.watchdog_timeout=300)", SIGQUIT}},
    /* Those who lost a rank speak before the rank itself does. */
    {"oom_load",
     VLLM,
     4,
     1,
     {"n0 misc/socket.cc:49 NCCL WARN socketProgress: Connection closed by remote peer "
      "node-a<41234>",
      "r0 torch.distributed.DistBackendError: NCCL error in: ProcessGroupNCCL.cpp:3356, remote "
      "process "
      "exited or there was a network error, NCCL version 2.26.2",
      "r0 ncclRemoteError: A call failed possibly due to a network error or a remote process "
      "exiting "
      "prematurely.",
      WORKERS_INIT, "!T3 load_model,create_weights|" OOM, CORE_DEAD}},
    {"kernel_fault",
     VLLM,
     4,
     4,
     {LOST_PEER("0"), LOST_PEER("1"),
      "!e2 torch.AcceleratorError: CUDA error: an illegal memory access was encountered",
      "C EngineCore encountered a fatal error."}},
    {"ecc",
     NCCL_UP,
     4,
     0,
     {WATCHDOG("1"), WATCHDOG("2"), "r1 RuntimeError: CUDA error: unspecified launch failure",
      "!k NVRM: Xid (PCI:0000:41:00): 95, pid=4902, name=python3, Uncontained: LTC TAG (0x2,0x0)"}},
    /* What went wrong in the start and was got over is not what broke it later. */
    {"nccl_timeout",
     LLAMA,
     2,
     0,
     {"- ggml_backend_cuda_buffer_type_alloc_buffer: allocating 8192.00 MiB on device 1: "
      "cudaMalloc "
      "failed: out of memory",
      "- main: server is listening on http://127.0.0.1:8080",
      "- srv  update_slots: all slots are idle", "!" WATCHDOG("1"),
      "- torch.distributed.elastic.multiprocessing.errors.ChildFailedError:"}},
    {"unknown_error",
     VLLM,
     2,
     1,
     {"!T1 load_model,frobnicate|ZeroDivisionError: division by zero", WORKERS_INIT, CORE_DEAD}},
    {"slow_transport",
     VLLM,
     4,
     0,
     {"!W0 Custom allreduce is disabled because it's not supported on more than two PCIe-only "
      "GPUs. "
      "To silence this warning, specify disable_custom_all_reduce=True explicitly.",
      "A INFO:     Application startup complete.",
      "A INFO:     10.0.0.9:52110 - \"POST /v1/chat/completions HTTP/1.1\" 200 OK"}},
};

#endif
