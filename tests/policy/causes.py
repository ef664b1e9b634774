"""Real lines of each class of cause, by stack, and lines that look like them and mean nothing.

Each is a line of a WebUI's log, and (where it has the shape of an exception) its reply's text. From
the public issues that signatures.yaml names as sources; the numbers from the vendors' headers.
"""

from __future__ import annotations

from dataclasses import dataclass

from sdwatch.policy.failure.facts import Diagnosis

OOM, POISONED, SERVER = Diagnosis.OUT_OF_MEMORY, Diagnosis.POISONED, Diagnosis.SERVER_ERROR
STORAGE = Diagnosis.STORAGE


@dataclass(frozen=True)
class Sample:
    """`cause`: a part of what is said of it."""

    text: str
    diagnosis: Diagnosis
    cause: str
    poisons: bool = False


def _samples(
    lines: str, diagnosis: Diagnosis, cause: str, *, poisons: bool = False
) -> list[Sample]:
    return [Sample(line, diagnosis, cause, poisons) for line in lines.strip().split("\n")]


GPU_MEMORY = """
torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity
torch.OutOfMemoryError: HIP out of memory. Tried to allocate 896.00 MiB. GPU 0 has a total capacity
torch.OutOfMemoryError: XPU out of memory. Tried to allocate 128.00 GiB. GPU 0 has a total capacity
RuntimeError: MPS backend out of memory (MPS allocated: 8.88 GB, other allocations: 12.00 GB)
torch.cuda.OutOfMemoryError: Allocation on device 0 would exceed allowed memory. (out of memory)
!!! Exception during processing !!! Allocation on device
RuntimeError: CUDA error: out of memory
RuntimeError: CUDA driver error: out of memory
RuntimeError: CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`
RuntimeError: cuDNN error: CUDNN_STATUS_ALLOC_FAILED
RuntimeError: failed call to cuMemAlloc: CUDA_ERROR_OUT_OF_MEMORY: out of memory
host:213:213 [0] enqueue.cc:1085 NCCL WARN Cuda failure 'out of memory'
host:213:213 [0] enqueue.cc:1085 NCCL WARN Cuda failure 2 'out of memory'
Error out of memory at line 380 in file /home/u/bitsandbytes/csrc/pythonInterface.c
RuntimeError: HIP error: out of memory
ROCm error: out of memory
RuntimeError: hipErrorOutOfMemory
RuntimeError: CUDA error: HIPBLAS_STATUS_ALLOC_FAILED when calling `hipblasCreate(handle)`
RuntimeError: rocblas_status_memory_error
RuntimeError: miopenStatusAllocFailed
:0:rocdevice.cpp:2652: Device::callbackQueue aborting with error : HSA_STATUS_ERROR_OUT_OF_RESOURCES
:0:rocdevice.cpp:2652: Callback: Queue 0x7f aborting with error : Zu wenig Ressourcen code: 0x1008
RuntimeError: Could not allocate tensor. There is not enough GPU video memory available!
[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Exception(1) tid(5a68) 8007000E Nicht genug Speicher
RuntimeError: hr = -2147024882
OSError: E_OUTOFMEMORY
BFCArena::AllocateRawInternal Failed to allocate memory for requested buffer of size 1
RuntimeError: Native API failed. Native API returns: 39 (UR_RESULT_ERROR_OUT_OF_DEVICE_MEMORY)
RuntimeError: UR_RESULT_ERROR_OUT_OF_HOST_MEMORY
RuntimeError: Native API failed. Native API returns: -5 (PI_ERROR_OUT_OF_RESOURCES) -5
RuntimeError: PI_ERROR_MEM_OBJECT_ALLOCATION_FAILURE
RuntimeError: level_zero backend failed with error: 40 (UR_RESULT_ERROR_OUT_OF_RESOURCES)
RuntimeError: Native API returns: 38
RuntimeError: UR backend failed. UR backend returns:40
RuntimeError: opencl backend failed with error: -6
RuntimeError: ZE_RESULT_ERROR_OUT_OF_DEVICE_MEMORY
RuntimeError: L0 error 0x70000003
RuntimeError: [GPU] clFlush, error code: -5 CL_OUT_OF_RESOURCES
RuntimeError: [GPU] clEnqueueNDRangeKernel, error code: -4
RuntimeError: CL_MEM_OBJECT_ALLOCATION_FAILURE
[CL ext] Can not allocate 1474560 bytes for USM Host. ptr: 0000000000000000, error: 0
RuntimeError: Current platform can NOT allocate memory block with size larger than 4GB!
RuntimeError: Allocation is out of device memory on current platform.
error: Insufficient Memory (00000008:kIOGPUCommandBufferCallbackErrorOutOfMemory)
error: Zu wenig Speicher (00000008:kIOGPUCommandBufferCallbackErrorOutOfMemory)
error: Insufficient Memory (00000008:Insufficient Memory)
RuntimeError: Invalid buffer size: 104.25 GB
failed assertion `[MPSNDArray initWithDevice:descriptor:] Error: total bytes of NDArray > 2**32'
failed assertion `[MPSNDArray initWithDevice:descriptor:] Error: product of dimension sizes > 2**31'
ggml_vulkan: vk::Device::allocateMemory: ErrorOutOfDeviceMemory
ggml_vulkan: Device memory allocation of size 369827840 failed.
MESA: error: ../src/intel/vulkan/anv_device.c:4237: VK_ERROR_OUT_OF_DEVICE_MEMORY
vkAllocateMemory failed -2
ggml_gallocr_reserve_n: failed to allocate CUDA1 buffer of size 10345253120
[ERROR] alloc_buffer: allocating 2024.00 MiB on device 0: cudaMalloc failed: out of memory
"""

MACHINE_MEMORY = """
RuntimeError: [enforce fail] DefaultCPUAllocator: can't allocate memory: you tried
OSError: [Errno 12] Cannot allocate memory
OSError: [Errno 12] Nicht genügend Hauptspeicher verfügbar
RuntimeError: unable to mmap 2132625612 bytes from file <x.safetensors>: Cannot allocate memory (12)
OSError: [WinError 8] Für diese Anforderung sind nicht genügend Speicherressourcen verfügbar
OSError: [WinError 1450] Nicht genügend Systemressourcen
SafetensorError: Nicht genügend Systemressourcen (os error 1450)
numpy.core._exceptions._ArrayMemoryError: Unable to allocate 4.00 GiB for an array with shape (3, 1)
terminate called after throwing an instance of 'std::bad_alloc'
memory allocation of 8589934592 bytes failed
ggml_aligned_malloc: insufficient memory (attempted to allocate 12320886.45 MB)
ggml_gallocr_reserve_n: failed to allocate CPU buffer of size 10345253120
ggml.c:1516: GGML_ASSERT(ctx->mem_buffer != NULL) failed
ggml_new_object: not enough space in the context's memory pool (needed 19176000, available 19136512)
"""

PAGE_FILE = """
OSError: [WinError 1455] Die Auslagerungsdatei ist zu klein
SafetensorError: Le fichier de pagination est insuffisant (os error 1455)
OSError: LoadLibrary failed with error code 1455
"""

SUSPENDED = """
RuntimeError: The GPU device instance has been suspended. Use GetDeviceRemovedReason to determine
System.Exception: GPU 设备实例已经暂停。使用 GetDeviceRemovedReason 以确定相应的措施。
RuntimeError: The GPU will not respond to more commands, most likely because of an invalid command
[ONNXRuntimeError] : 1 : FAIL : Exception(3) tid(5a68) 887A0005 Die GPU-Instanz wurde angehalten
RuntimeError: 0x887a0006
RuntimeError: hr = -2005270521
RuntimeError: DXGI_ERROR_DRIVER_INTERNAL_ERROR (0x887A0020)
RuntimeError: D3D12: DXGI_ERROR_DEVICE_HUNG
"""

DEVICE_LOST = """
RuntimeError: Native API failed. Native API returns: 20 (UR_RESULT_ERROR_DEVICE_LOST)
ERROR:sd:[AgentScheduler] Task 129b754b failed: Native API returns: 20 (UR_RESULT_ERROR_DEVICE_LOST)
RuntimeError: level_zero backend failed with error: 20 (UR_RESULT_ERROR_DEVICE_LOST)
RuntimeError: Native API returns: 20
RuntimeError: backend failed with error: 20
RuntimeError: UR backend failed. UR backend returns:20
RuntimeError: ZE_RESULT_ERROR_DEVICE_LOST
RuntimeError: ze error 0x70000001
terminate called after throwing an instance of 'vk::DeviceLostError'
  what():  vk::Queue::submit: ErrorDeviceLost
ERROR! VK call failed! result = VK_ERROR_DEVICE_LOST
vkQueueSubmit failed -4
vkWaitForFences failed -4
"""

HANG = """
HW Exception by GPU node-1 (Agent handle: 0x632d71637310) reason :GPU Hang
amdgpu: reason :GPU Hang
:0:rocdevice.cpp:3020: Callback: Queue aborting with error : HSA_STATUS_ERROR_EXCEPTION: An
:0:rocdevice.cpp:2728: aborting with error : HSA_STATUS_ERROR_OUT_OF_REGISTERS: Kernel has
Caused GPU Timeout Error (00000002:kIOGPUCommandBufferCallbackErrorTimeout)
Ignored (00000004:kIOGPUCommandBufferCallbackErrorSubmissionsIgnored)
"""

FAULT = """
RuntimeError: CUDA error: an illegal memory access was encountered
Error an illegal memory access was encountered at line 181 in file /csrc/ops.cu
RuntimeError: CUDA error: misaligned address
RuntimeError: HIP error: an illegal memory access was encountered
RuntimeError: CUDA_ERROR_ILLEGAL_ADDRESS
RuntimeError: cudaErrorIllegalAddress
RuntimeError: hipErrorIllegalAddress
Memory access fault by GPU node-1 (Agent handle: 0x5) on address 0x7f. Reason: Unknown.
HSA_STATUS_ERROR_MEMORY_APERTURE_VIOLATION: The agent attempted to access memory beyond the largest
Caused GPU Address Fault Error (0000000b:kIOGPUCommandBufferCallbackErrorPageFault)
"""

LAUNCH = """
RuntimeError: CUDA error: unspecified launch failure
RuntimeError: HIP error: unspecified launch failure
RuntimeError: CUDA error: the launch timed out and was terminated
RuntimeError: CUDA error: unknown error
RuntimeError: CUDA driver error: unknown error
RuntimeError: HIP error: unknown error
RuntimeError: CUDA_ERROR_LAUNCH_FAILED
RuntimeError: hipErrorLaunchFailure
"""

GENERAL = """
RuntimeError: CUDA error: invalid argument
RuntimeError: CUDA driver error: device not found
RuntimeError: HIP error: invalid argument
ROCm error: invalid argument
RuntimeError: Native API failed. Native API returns: 45 (UR_RESULT_ERROR_INVALID_ARGUMENT)
RuntimeError: level_zero backend failed with error: 2147483646 (UR_RESULT_ERROR_UNKNOWN)
RuntimeError: UR error
"""

LIBRARY = """
RuntimeError: cuDNN error: CUDNN_STATUS_EXECUTION_FAILED
RuntimeError: CUBLAS_STATUS_EXECUTION_FAILED
RuntimeError: cusolver error: CUSOLVER_STATUS_INTERNAL_ERROR
RuntimeError: NCCL error: unhandled cuda error (run with NCCL_DEBUG=INFO for details)
RuntimeError: NCCL failed: ncclUnhandledCudaError: Call to CUDA function failed.
RuntimeError: miopenStatusUnknownError
MIOpen Error: /MIOpen/src/ocl/convolutionocl.cpp:790: Forward Convolution cannot be executed
RuntimeError: rocblas_status_internal_error
RuntimeError: HIPBLAS_STATUS_INTERNAL_ERROR
RuntimeError: could not create a primitive
"""

METAL = """
Error: command buffer exited with error status.
ggml_metal_graph_compute: command buffer 6 failed with status 5
"""

ZLUDA = """
RuntimeError: CUDA error: CUBLAS_STATUS_NOT_SUPPORTED when calling `cublasSgemm( handle, opa, opb)`
"""

NOT_BUILT = """
RuntimeError: CUDA error: no kernel image is available for execution on the device
ROCm error: device kernel image is invalid
RuntimeError: HIP error: invalid device function
Error named symbol not found at line 90 in file D:/a/bitsandbytes/csrc/ops.cu
"hipErrorNoBinaryForGpu: Unable to find code object for all current devices!"
RuntimeError: hipErrorInvalidDeviceFunction
rocBLAS error: Cannot read /opt/rocm/lib/rocblas/library/TensileLibrary.dat: Illegal seek
RuntimeError: CUDA error: the provided PTX was compiled with an unsupported toolchain.
RuntimeError: CUBLAS_STATUS_ARCH_MISMATCH
RuntimeError: CUDA Setup failed despite GPU being available. Please run the following command
RuntimeError: CUDNN_STATUS_SUBLIBRARY_VERSION_MISMATCH
RuntimeError: cuDNN version incompatibility: PyTorch was compiled against (8, 9, 6)
nvrtc: error: invalid value for --gpu-architecture (-arch)
MIOpen Error: /MIOpen/src/hipoc/hipoc_program.cpp:286: Code object build failed.
"""

NO_GPU = """
RuntimeError: No CUDA GPUs are available
RuntimeError: No HIP GPUs are available
RuntimeError: No XPU devices are available.
RuntimeError: Found no NVIDIA driver on your system.
RuntimeError: CUDA error: no CUDA-capable device is detected
RuntimeError: HIP error: no ROCm-capable device is detected
RuntimeError: CUDA driver initialization failed, you might not have a CUDA gpu.
RuntimeError: failed call to cuInit: CUDA_ERROR_NO_DEVICE
RuntimeError: Native API failed. Native API returns: -1 (PI_ERROR_DEVICE_NOT_FOUND)
Unable to determine the device handle for GPU 0000:02:00.0: GPU is lost. Reboot the system
NVRM: Xid (PCI:0000:02:00): 79, GPU has fallen off the bus.
"""

BUSY_GPU = """
RuntimeError: CUDA error: all CUDA-capable devices are busy or unavailable
RuntimeError: CUDA error: CUDA-capable device(s) is/are busy or unavailable
"""

FAULTY_GPU = """
RuntimeError: CUDA error: uncorrectable ECC error encountered
RuntimeError: failed call to cuCtxCreate: CUDA_ERROR_ECC_UNCORRECTABLE
"""

ATTENTION = """
NotImplementedError: No operator found for `memory_efficient_attention_forward` with inputs:
triton.runtime.errors.OutOfResources: out of resource: shared memory, Required: 131072
RuntimeError: FlashAttention only supports Ampere GPUs or newer.
"""

WRONG_NUMBERS = """
RuntimeError: expected scalar type Half but found Float
RuntimeError: "LayerNormKernelImpl" not implemented for 'Half'
RuntimeError: "upsample_nearest2d_channels_last" not implemented for 'Half'
RuntimeError: "addmm_cuda" not implemented for 'Float8_e4m3fn'
RuntimeError: mat1 and mat2 must have the same dtype, but got Half and Float
RuntimeError: self and mat2 must have the same dtype, but got Half and Float
RuntimeError: Query, key, and value must all have the same dtype
RuntimeError: Input type (float) and bias type (c10::Half) should be the same
Input type (torch.cuda.HalfTensor) and weight type (torch.cuda.FloatTensor) should be the same
TypeError: BFloat16 is not supported on MPS
TypeError: Cannot convert a MPS Tensor to float64 dtype as the MPS framework
error: input types 'tensor<2x1280xf32>' and 'tensor<*xf16>' are not broadcast compatible
TypeError: Got unsupported ScalarType BFloat16
"""

WRONG_DEVICE = """
RuntimeError: Expected all tensors to be on the same device, but found at least two devices, cuda:0
RuntimeError: Placeholder storage has not been allocated on MPS device!
Input type (torch.cuda.HalfTensor) and weight type (torch.FloatTensor) should be the same
RuntimeError: Input type (MPSFloatType) and weight type (torch.FloatTensor) should be the same
RuntimeError: Input and weight must be on the same device
RuntimeError: please report a bug to PyTorch. unbox expects Dml at::Tensor as inputs
RuntimeError: tensor.device().type() == at::DeviceType::PrivateUse1 INTERNAL ASSERT FAILED at
NotImplementedError: Cannot copy out of meta tensor; no data!
RuntimeError: Tensor on device cpu is not on the expected device meta!
"""

DAMAGED = """
RuntimeError: PytorchStreamReader failed reading zip archive: failed finding central directory
RuntimeError: failed finding central directory
zipfile.BadZipFile: File is not a zip file
EOFError: Ran out of input
_pickle.UnpicklingError: pickle data was truncated
_pickle.UnpicklingError: invalid load key, '<'.
safetensors_rust.SafetensorError: Error while deserializing header: HeaderTooLarge
SafetensorError: InvalidHeaderDeserialization
SafetensorError: InvalidHeaderLength
SafetensorError: InvalidHeaderStart
SafetensorError: TensorInvalidInfo
SafetensorError: InvalidOffset
RuntimeError: unexpected EOF, expected 1234 more bytes. The file might be corrupted.
gguf_init_from_file_impl: invalid magic characters: '<htm', expected 'GGUF'
ValueError: GGUF magic invalid
gguf_init_from_file_impl: failed to read tensor info
[ERROR] stable-diffusion.cpp:192 - init model loader from file failed: 'x.gguf'
[ERROR] stable-diffusion.cpp:199 - load tensors from model loader failed
[ERROR] stable-diffusion.cpp:201 - get sd version from file failed: 'x.gguf'
"""

GATED = """
huggingface_hub.errors.GatedRepoError: 401 Client Error. (Request ID: Root=1-6)
Cannot access gated repo for url https://huggingface.co/black-forest-labs/FLUX.1-dev/resolve/main/x
requests.exceptions.HTTPError: 403 Client Error: Forbidden for url: https://huggingface.co/x
HfHubHTTPError: 401 Client Error. (Request ID: Root=1-6)
Access to model black-forest-labs/FLUX.1-dev is restricted. You must have access to it
"""

GONE_FROM_HUB = """
huggingface_hub.utils._errors.RepositoryNotFoundError: 404 Client Error. (Request ID: Root=1-6)
huggingface_hub.errors.EntryNotFoundError: 404 Client Error. (Request ID: Root=1-6)
huggingface_hub.errors.RevisionNotFoundError: 404 Client Error. (Request ID: Root=1-6)
requests.exceptions.HTTPError: 404 Client Error: Not Found for url: https://x
urllib.error.HTTPError: HTTP Error 404: Not Found
"""

BUSY_HUB = """
requests.exceptions.HTTPError: 429 Client Error: Too Many Requests for url: https://huggingface.co/x
huggingface_hub.errors.HfHubHTTPError: 503 Server Error: Service Temporarily Unavailable for url: x
urllib.error.HTTPError: HTTP Error 502: Bad Gateway
"""

NETWORK = """
urllib3.exceptions.NameResolutionError: <HTTPSConnection object>: Failed to resolve 'x'
socket.gaierror: [Errno -3] Temporary failure in name resolution
socket.gaierror: [Errno 11001] getaddrinfo failed
urllib3.exceptions.MaxRetryError: HTTPSConnectionPool(host='x', port=443): Max retries exceeded
requests.exceptions.ConnectionError: (MaxRetryError("HTTPSConnectionPool(host='huggingface.co')"))
requests.exceptions.ConnectTimeout: HTTPSConnectionPool(host='x', port=443): ConnectTimeoutError
requests.exceptions.ReadTimeout: HTTPSConnectionPool(host='x'): ReadTimeoutError
requests.exceptions.ProxyError: HTTPSConnectionPool(host='x'): ProxyError('Cannot connect')
requests.exceptions.SSLError: HTTPSConnectionPool(host='x'): SSLError(1)
ssl.SSLCertVerificationError: [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed
urllib.error.URLError: <urlopen error [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed>
http.client.IncompleteRead: IncompleteRead(1024 bytes read, 2048 more expected)
OSError: We couldn't connect to 'https://huggingface.co' to load this file, couldn't find it
huggingface_hub.errors.OfflineModeIsEnabled: OfflineModeIsEnabled: cannot reach https://x
OSError: [Errno 101] Netzwerk ist nicht erreichbar
TimeoutError: [Errno 110] Die Wartezeit für die Verbindung ist abgelaufen
ConnectionRefusedError: [Errno 111] Verbindungsaufbau abgelehnt
OSError: [Errno 113] Keine Route zum Zielrechner
TimeoutError: [WinError 10060] Ein Verbindungsversuch ist fehlgeschlagen
ConnectionRefusedError: [WinError 10061] Es konnte keine Verbindung hergestellt werden
ConnectionResetError: [WinError 10054] Eine vorhandene Verbindung wurde geschlossen
"""

DISK_FULL = """
OSError: [Errno 28] Auf dem Gerät ist kein Speicherplatz mehr verfügbar
OSError: [Errno 28] No space left on device
OSError: [Errno 122] Disk quota exceeded
OSError: [Errno 122] Der zugewiesene Plattenplatz ist überschritten
OSError: [WinError 112] Es steht nicht genug Speicherplatz auf dem Datenträger zur Verfügung
OSError: [WinError 39] Der Datenträger ist voll
SafetensorError: Es steht nicht genug Speicherplatz zur Verfügung (os error 112)
"""

NOT_ALLOWED = """
PermissionError: [Errno 13] Keine Berechtigung: '/srv/outputs'
PermissionError: [WinError 5] Zugriff verweigert: 'C:/outputs'
OSError: [Errno 30] Das Dateisystem ist nur lesbar: '/srv/outputs'
OSError: [Errno 30] Read-only file system: '/srv/outputs'
SafetensorError: Permission denied (os error 13)
"""

NOT_READABLE = """
OSError: [Errno 5] Eingabe-/Ausgabefehler
OSError: [Errno 5] Input/output error
OSError: [Errno 116] Stale file handle
OSError: Stale NFS file handle
OSError: [WinError 1117] Die Anforderung konnte wegen eines E/A-Gerätefehlers nicht
OSError: [WinError 64] Der angegebene Netzwerkname ist nicht mehr verfügbar
"""

IN_USE = """
PermissionError: [WinError 32] Der Prozess kann nicht auf die Datei zugreifen
"""

TOO_MANY_FILES = """
OSError: [Errno 24] Zu viele offene Dateien: '/tmp/x.png'
OSError: [Errno 24] Too many open files
OSError: [WinError 4] Das System kann die Datei nicht öffnen
RuntimeError: can't start new thread
"""

SAMPLES = [
    *_samples(GPU_MEMORY, OOM, "the GPU ran out of memory"),
    *_samples(MACHINE_MEMORY, OOM, "(not the GPU)"),
    *_samples(PAGE_FILE, OOM, "page file is too small"),
    *_samples(SUSPENDED, POISONED, "suspended the GPU", poisons=True),
    *_samples(DEVICE_LOST, POISONED, "the GPU was lost", poisons=True),
    *_samples(HANG, POISONED, "the GPU hung", poisons=True),
    *_samples(FAULT, POISONED, "accessed memory", poisons=True),
    *_samples(LAUNCH, POISONED, "aborted a kernel", poisons=True),
    *_samples(GENERAL, POISONED, "the GPU reported an error", poisons=True),
    *_samples(LIBRARY, POISONED, "a GPU library failed", poisons=True),
    *_samples(METAL, POISONED, "macOS aborted", poisons=True),
    *_samples(ZLUDA, POISONED, "lacks an operation", poisons=True),
    *_samples(NOT_BUILT, POISONED, "was not built for this GPU"),
    *_samples(NO_GPU, POISONED, "no longer finds the GPU", poisons=True),
    *_samples(BUSY_GPU, POISONED, "does not let the WebUI use the GPU", poisons=True),
    *_samples(FAULTY_GPU, POISONED, "uncorrectable", poisons=True),
    *_samples(ATTENTION, SERVER, "the attention library"),
    *_samples(WRONG_NUMBERS, SERVER, "different number formats"),
    *_samples(WRONG_DEVICE, POISONED, "no longer on the right device", poisons=True),
    *_samples(DAMAGED, POISONED, "is damaged", poisons=True),
    *_samples(GATED, SERVER, "refuses to give the WebUI a file"),
    *_samples(GONE_FROM_HUB, SERVER, "no longer exists (404)"),
    *_samples(BUSY_HUB, SERVER, "busy or broken"),
    *_samples(NETWORK, SERVER, "but the network fails"),
    *_samples(DISK_FULL, STORAGE, "is full"),
    *_samples(NOT_ALLOWED, STORAGE, "may not read or write"),
    *_samples(NOT_READABLE, STORAGE, "cannot be read"),
    *_samples(IN_USE, SERVER, "another program has"),
    *_samples(TOO_MANY_FILES, POISONED, "too many open files", poisons=True),
]

LOOK_ALIKES = """
*** Arguments: ('task(x)', 'a poster that says CUDA out of memory, neon', '', [], 20) {}
Arguments: ('a poster that says: The GPU device instance has been suspended', '', 20) {}
00:00:00-000000 ERROR    Arguments: args=('task(x)', 'UR_RESULT_ERROR_DEVICE_LOST on a wall', '')
prompt: a neon sign, "RuntimeError: CUDA error: an illegal memory access was encountered"
[Fooocus] prompt = a sign that says OutOfMemoryError
{'prompt': 'a poster: HIP error: out of memory', 'negative_prompt': 'blurry', 'steps': 20}
{"negative_prompt": "VK_ERROR_DEVICE_LOST, vkQueueSubmit failed -4", "steps": 20}
Tip: if you get CUDA out of memory, start with --lowvram
Hint: --medvram helps with CUDA out of memory
INFO  If you run out of memory (torch.OutOfMemoryError: CUDA out of memory), lower the batch size
Note: XPU out of memory may occur with large pictures
CUDA out of memory errors can be avoided with a smaller batch size
To avoid HIP out of memory set PYTORCH_HIP_ALLOC_CONF=expandable_segments:True
|       CUDA OOMs: 3            |        cudaMalloc retries: 12        |
{'ram': {'used': 31.53}, 'gpu': {'used': 0.19, 'total': 15.92, 'retries': 0, 'oom': 0, 'swap': 0}}
Memory: reserved 3.2 GB, allocated 2.9 GB, out of 8 GB; peak 7.9 GB
reforge-OutOfMemoryError-fix.safetensors:  45%|████▌     | 3.1G/6.9G [01:02<01:16, 49.8MB/s]
Device lost and found.png:  45%|████▌     | 1/2 [00:01<00:01,  1.00it/s]
  0%|          | 0/20 [00:00<?, ?it/s]
Warning: Ran out of memory when regular VAE decoding, retrying with tiled VAE decoding.
out of memory error, increasing steps and trying again 4
scaled_dot_product_attention OOMed: switched to slice attention
ROCm pool[0]: alloc of 1209.60 MiB failed, flushing 935.90 MiB of cached buffers and retrying
ignoring 'copy_' on tensor: Native API returns: 39 (UR_RESULT_ERROR_OUT_OF_DEVICE_MEMORY)
Encountered Out of Memory during VAE decoding; Retrying with Tiled VAE Decoding...
MIOpen(HIP): Warning [IsEnoughWorkspace] workspace required: 0, provided: 0
MIOpen(HIP): Warning [SQLiteBase] Unable to read system database file: gfx900_64.kdb
rocBLAS warning: hipBlasLT failed, falling back to tensile.
UserWarning: Plan failed with an OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB
'(MaxRetryError: HTTPSConnectionPool: Max retries exceeded)' thrown while requesting HEAD https://x
Retrying in 1s [Retry 1/5].
WARNING[XFORMERS]: xFormers can't load C++/CUDA extensions. xFormers was built for:
A matching Triton is not available, some optimizations will not be enabled
Warning: caught exception 'Torch not compiled with CUDA enabled', memory monitor disabled
Warning: caught exception 'Found no NVIDIA driver on your system.', memory monitor disabled
UserWarning: CUDA initialization: CUDA unknown error - this may be due to
    except torch.cuda.OutOfMemoryError as e:
    raise RuntimeError("CUDA error: no kernel image is available for execution on the device")
│ ❱  20 │   │   raise RuntimeError('CUDA Setup failed despite GPU being available')
    # retry in tiles after an OutOfMemoryError
ggml_cuda_init: failed to initialize CUDA: no CUDA-capable device is detected
expandable_segments not supported on this platform
Loading weights [e4b17ce185] from D:/models/887A0005-mix.yaml
INFO:     127.0.0.1:51324 - "GET /sdapi/v1/progress HTTP/1.1" 200 OK
Exit code -9 is what the killer gives
loaded completely 6372.3515625 159.55708122253418 True
""".strip().split("\n")

EXITS = [
    *((code, "SIGKILL") for code in (-9, 137)),
    *((code, "segmentation fault") for code in (-11, 139, -7, 135, 0xC0000005, -1073741819)),
    *((code, "(abort)") for code in (-6, 134, -5, 133, 0xC0000409, -1073740791, 0xC0000420)),
    *((code, "(abort)") for code in (0xC0000417, 0xC000041D, 0x80000003, 0xE06D7363, -529697949)),
    *((code, "another processor") for code in (-4, 132, 0xC000001D, -1073741795, 0xC0000096)),
    *((code, "divided by zero") for code in (-8, 136, 0xC0000094, 0xC000008E)),
    *((code, "heap corruption") for code in (0xC0000374, -1073740940)),
    *((code, "stack overflow") for code in (0xC00000FD, -1073741571)),
    *((code, "could not be read") for code in (0xC0000006, -1073741818)),
    *((code, "ran out of memory") for code in (0xC0000017, 0xC000012D, 0xC000009A, -1073741801)),
    *((code, "took the GPU away") for code in (0x887A0005, 0x887A0006, -2005270521, 0x887A0020)),
    *((code, "was asked to exit") for code in (0, -15, 143, -2, 130, -1, 129, -3, 131, -30, 158)),
    *((code, "was asked to exit") for code in (0xC000013A, -1073741510, 0x40010004, 0xC000026B)),
    *((code, "was asked to exit") for code in (-10, 138, -12, 140, -14, 142, -27, 155)),
    *((code, "at a limit") for code in (-24, 152, -25, 153, -31, 159)),
    *((code, "(SIGPIPE)") for code in (-13, 141)),
]

EXITS_OF_STARTS = [
    *((code, "cannot be loaded") for code in (0xC0000135, -1073741515, 0xC0000142, 0xC000007B)),
    (0xC0000139, "cannot be loaded"),
    *((code, "may not read") for code in (126, 0xC0000022)),
    *((code, "asked to exit during its startup") for code in (143, -3, 0x40010004, -1073741510)),
    *((code, "another processor") for code in (-4, 132, -1073741795)),
]

_CALLED = "subprocess.CalledProcessError: Command '['python', 'launch.py']' died with <Signals."

ENDS = [
    (f"{_CALLED}SIGKILL: 9>.", "SIGKILL"),
    (f"{_CALLED}SIGSEGV: 11>.", "segmentation fault"),
    (f"{_CALLED}SIGBUS: 7>.", "segmentation fault"),
    ("!!!!!!! Segfault encountered !!!!!!!", "segmentation fault"),
    (
        "webui.sh: line 304: 26728 Bus error               (core dumped) python",
        "segmentation fault",
    ),
    ("webui.sh: line 304: 26728 Illegal instruction     (core dumped) python", "another processor"),
    ("OSError: [WinError -1073741795] Windows Error 0xc000001d", "another processor"),
    ("webui.sh: line 304: 26728 Floating point exception (core dumped) python", "divided by zero"),
    ("Critical error detected c0000374: heap corruption", "heap corruption"),
    ("free(): invalid pointer", "heap corruption"),
    ("free(): corrupted unsorted chunks", "heap corruption"),
    ("malloc(): invalid size (unsorted)", "heap corruption"),
    ("munmap_chunk(): invalid pointer", "heap corruption"),
    ("malloc_consolidate(): invalid chunk size", "heap corruption"),
    ("double free or corruption (out)", "heap corruption"),
    ("corrupted size vs. prev_size", "heap corruption"),
    ("Windows fatal exception: stack overflow", "stack overflow"),
    ("Fatal Python error: Cannot recover from stack overflow.", "stack overflow"),
    ("Fatal Python error: Aborted", "(abort)"),
    ("ggml.c:1576: GGML_ASSERT(obj_new) failed", "(abort)"),
]
"""Last lines of a process that ended, beside an exit code that says nothing."""

STARTS = [
    ("AssertionError: Torch not compiled with XPU enabled", "built for the CPU"),
    ("RuntimeError: PyTorch is not linked with support for mps devices", "built for the CPU"),
    ("RuntimeError: No HIP GPUs are available", "finds no GPU"),
    ("RuntimeError: CUDA error: no CUDA-capable device is detected", "finds no GPU"),
    ("RuntimeError: HIP error: no ROCm-capable device is detected", "finds no GPU"),
    ("RuntimeError: CUDA error: invalid device ordinal", "finds no GPU"),
    ("RuntimeError: CUDA driver initialization failed, you might not have a CUDA", "finds no GPU"),
    ("RuntimeError: Unexpected error: system has unsupported display driver", "finds no GPU"),
    ("RuntimeError: failed call to cuInit: CUDA_ERROR_NO_DEVICE", "finds no GPU"),
    ("RuntimeError: Native API returns: -1 (PI_ERROR_DEVICE_NOT_FOUND)", "finds no GPU"),
    ("ROCm error: out of memory", "the GPU ran out of memory"),
    (
        "ggml_vulkan: vk::Device::allocateMemory: ErrorOutOfDeviceMemory",
        "the GPU ran out of memory",
    ),
    ("[ERROR] main.cpp:1 - init model loader from file failed: 'x.gguf'", "is damaged"),
    ("OSError: [Errno 28] Kein Speicherplatz", "is full"),
    ('"hipErrorNoBinaryForGpu: Unable to find code object"', "was not built for this GPU"),
    ("rocBLAS error: Cannot read TensileLibrary.dat: No such file", "was not built for this GPU"),
]
"""Last lines of a start that failed."""
