"""The words that logs are made of, of WebUIs, Python, torch and sdwatch: not one of them tells what
a prompt was about, and without them no log can be read.

Drawn from what Forge, AUTOMATIC1111, SD.Next and sdwatch print; what is missing here costs nothing
but a word in the log of somebody who has it in a prompt.
"""

from __future__ import annotations

_WORDS = """
a1111 abandon abandoned abdf able abort aborted about above abpr abs absent absolute accelerator
acceleratorerror accent access accident act active activity actual add added additional address
addresses admin administrator adopt adopted advice advisory after afterwards again against age ago
aiter akia alarm algorithm alias aliases alike alive all alloc allocate allocations allocator
allow allowed allows alone already also although always alwayson ambiguous amd amd64 among
ancestral anchor anchors and anew anext annotation announced another ansi answer answered answers
any anybody anyio anyof anything anyway anywhere apart api apis app appeared appears append
appended appending application applications applied apply applying architecture archive are args
argument arguments argv arithmeticerror around array arrival arrives arriving ascii asctime asgi
aside ask asked asking asks assert assertion assertionerror asyncexitstack asyncio asynclib attach
attachconsole attached attempt attempting attempts attention attribute attributeerror audio auth
authenticate authenticated author authorization auto autocorrection autoload automatic
automatic1111 autosaving aux available await aware away back backend backends backslash
backslashreplace backward bad bak bar bare bars base base64 baseexception bash basic bat batch
bearer beat beaten beats because become becomes been before began begin beginning begins begun
behaviour behind being believe believed believes belong belongs below beside besides best beta
better between bey beyj bf16 bfloat16 bias bicubic bin binary bind blame blamed blames blank
blanks blind block blocked blockingioerror blocks bodies body bom bomb bool boolean booleans boot
bootsessionuuid both bound bounded bounds brackets break breakpoint breaks bring brings broke
broken brokenpipeerror brought browser browsers buffer buffererror bug build builds built builtin
bundle business busy but button buttons byte bytearray bytes byteswarning cache cached caches
calculate calculating call callable callback called caller callfailederror calling calls came can
canary cancel cancelled cancels cannot canonicalize cap capitals caption captured care careful
cares carry case catalogue caught cause cfg chain chance change changed changes changing character
characters chars cheap check checked checkout checkpoint checkpoints checks checksums child
children chmod choice choices choose chose chosen chown civitai ckpt claim claimed clamped class
classmethod cleanup cleared clickable client clip clock clocks cloexec close closed closes closing
code codeformer codes coerced collects colon colour colours column columns com come comes comfy
comfyui command commands commas comment commented comments commit common community compare
compared compile compiled complete completed completing complex components composition computation
compute computed computes con concern concurrency condemns conditioning conds config configerror
configs configured conin connect connected connection connectionerror connections conout console
consoles constant contact container content context contextlib continuations continue control
controlnet conv cookie cool cooldown cooling copied copy copyright core cores coro correct corrupt
corrupted cors cost costs could couldn count counted counting counts covered cpp cpu crash crashed
crashes crdownload create created creating credential credentials credits cript critical crop
cross ctypes cublas cuda cuda12 cudnn cudnn9 cure cures current custom cut cuts daemon damage
damaged dat data date day days ddim dead deals death debug decided decides decision decisions
decode decoded decoders decodes decoding decompression decorate deep deeper def default
definitions defs delattr delay delete deleted delivered demand demo denoise denoised denoising
dependant depends deprecated depth desc descend descendant descendants description descriptor
descriptors design desktop detail dev device devices dfdcbab diagnosed diagnosis diagram dict did
died dies differ difference different differs diffusers diffusion digest digests dim dimension
dimensions dir direct direction directml directories directory dirs disable disabled disconnect
disconnected disk dispatch display distilled division divmod dmesg doc docs document documents
does doing done dot double doubt doubts down download downloaded downloads dpm dpm2 draft draw
drawn draws drew drip driver drives drop dropped dtype due dumped dumps durable duration durations
during dynamic each eadir eagain eager earlier early echo echoes econnaborted econnreset eda edge
edit edited editor editors effect effects ehostdown ehostunreach eighth eintr einval eio either
ellipsis eloop else elsewhere embedding embeddings emfile empty enable enabled encode encoded
encoder encodingwarning encountered end ended ending endofstream endpoint ends enetdown
enetunreach enfile enforce enlarge enlarged enodev enomem enotconn enotdir enough ensure entries
entry enum enumerate env envelope environ environment environmenterror enxio eoferror eps equal
equalled err errno error errors esc escape escaped escapes esrgan estale eta etc etimedout euler
eulr eval even event events ever every everything everywhere evidence exact exactly examples exc
exceeded exception exceptiongroup exceptions exclusive exclusiveminimum excused exe exec execution
exist existing exists exit exitcode exiting exits expected explains explanation exponential export
expression extension extensions external extra extract extras facts fail failed failing fails
failure failures fallback false family far fast fastapi fatal fault faults favicon fetch few field
fields fifo fifty file fileexistserror filelock filename filenames filepart fileproblems files
filled filter find finding findings finds finish finished finite first firstpass fit fits five fix
flag flags flash flex flight float float16 float32 flood flux folded folder folders folds follow
followed following follows font for forbid force forge forget forgiven form format former forms
forward found four fp16 fp32 fp8 fragment fragments frame frames free freeconsole freed fresh from
front froze frozen frozenset full fully func function functions further future futurewarning gate
gave gb gdfdcbab gen generate generated generates generating generation generations generatorexit
get getattr gets gfpgan ggo gguf gib gif gigabyte gil git github give given gives giving globals
glpat glued goes going gone good google got gpu gpus grace graceful grad gradio greater grew grid
grids group grow growing grown grows gzip had half handed handle handler handling hang hangs
happen happened happens hard harmless has hasattr hash hat have having head header headers
headertoolarge headertoosmall heading headings headless health hear heard hears heartbeat
heartbeats heaviest height held heldtoolong help helped helper helpers helps her here heun hex
hidden hide hides high higher him hint hints hip hires his history hold holder holds hole home
hook hooks host hosts hours how however http http2 httpexception https hub huge huggingface hung
hypernetworks ico identical identify identity idle ignore ignored ignores illegal image imagelist
images img img2img imgapi impl import important imported importerror importing imports
importwarning impossible inbox included incomplete incorrect indent indentation indentationerror
indented index indexerror inf inference info information infotext infotexts inherits ini init
initialize initializing injected inner innermost inode inotify input inputs inside insist install
installed instance instead insufficient int int8 integer intent internal interrogate interrupt
interrupted interruptederror interrupts into invalid invalidheader inversions invoke invokeai
ioerror ipv ipv4 ipv6 isinstance issubclass issue issues items iter its itself jitter job
jobchangederror joberror jobs jobunfiterror journal journalctl journalerror journalled jpeg jpg
json jsonl judge jumps junction just kanvas karras kb kdiffusion kdpm2 keep keeper keeping keeps
kept kern kernel kernels key keyerror keys keyword kggo kill killed killer killing killpg kind
kinds know known knows kwargs label labels labs lambda lanczos lane lanes language large larger
last lasts late latent later latin launch launched launcher launching layer layers lazy lead leads
leak leaks learn learned learns least leave leaves leaving ledger left len length lengthen lengths
less let lets letters level levelname levels lib libraries library license lie lies life lifecycle
lifecycleerror like likely likewise limit limits line linear lines link links linux list listed
listen listener listens listing listings lists little live lives living lllyasviel lms load loaded
loader loaders loading loads loc local locale localhost locals location lock locks log logged logs
long longer longest look looked looks lookuperror loop loops loose lora lora1 loras lost lostimage
low lower lowvram mac machine machines macos macosx made mailbox main make makes manage managed
manager manifest many map mapping mark marked marker marks mask mat match matched math matter
matters max maximum maxitems maxproperties may maybe mb mean means meant meanwhile measured
measuring medvram meet meets megabytes megapixels member memory memoryerror memoryview mend
message messages met metadata method methods mib microsoft mid middle middleware might milder
million millisecond milliseconds min minfo minimum minitems minor minproperties minute mirror
misaligned mismatch missing misspelt mistake mistakes mloading mode model modelloader models
modern modes module modules modulo moment monitor monitordied monitors monotonic more most mounted
move moved movement moves moving mp4 ms mtime much multiple multiples multiplied must name named
nameerror names naming nan nano nans nansexception near nearest nearly need needed needle needles
needs negative neighbours neither nested nesting net network networks never new newest news next
nginx node nodes noimage noise non nonblock none nonempty nonetype nonexistent nonsense nope
nopicture nopictureerror nor normalised nosuch not note noted notepad notes notfounderror nothing
notice noticed notification notimplemented now nowait nowebui npu nul null number numbers numpy
nunchaku nvidia obeyed object observer occurred oct ode off offline offs often oftener oil old
older oldest once one oneof ones online only onnxruntime oom open openapi opened opens operating
opinions opt optimization option options opts ord order orders org orphaned oserror other others
otherwise our ours out outcome outer outlast outlives outofmemoryerror output outputs outside over
overclocking overflowerror overlap override overrides overrode overrun overwritten own owner owns
package packages packed padded page pages pair para parallel parameters params parent parentheses
parents parked parse parsed parser parsers parsing part partial parts pass passed passes passw
passwd password passwords past pat path paths patience payload payloads peer pending per percent
percentage perhaps permissionerror permissions permit person phase phases phrase phrases picked
picture pictures pid pids pile piles pillow pin ping pinned pipe pipeline pipelines pipes pixel
pixels place placed placeholder placeholders places plain planned platform please png poisoned
poisons policy poll polling pool pooled popen port porttakenerror position positional positive
posix possible post postprocess posts pow precision predecessor preferences preflight preprocessor
present press pressed preview previous print printed prints priority probe proberesult probes
problem problems proc proceeding process processed processerror processes processing processor
produced product profiling program programs progress progressive promise promised promises prompt
prompts proof proper properties property protocols prove proven proves proxies proxy psutil public
publish published publisher publishes pure purpose pushed put pydantic python pythonunbuffered
pytorch pyyaml quadratic quantized query question questions queue queued queues quick quickly quit
quote quotes race raise raised raises ram ran random range rate rates rather raw reach reached
reaches read readable readiness reading readme reads readtimeout ready real realesrgan reap reaped
reaps reason reboot rebuilds receive recent recognize record recorded recorder records recovery
recurse recursionerror recv recycle recycled recycling redact redaction redirect redirects redrawn
redraws ref reference referenceerror refiner refresh refusal refuse refused refuses registered
regular relative release reload remember remembered remembers remote remove removed removes rename
renamed renames repeat repeated repeats replace replaced replaces replay replies reply repo report
reported reports repositories repr req request requestbody requests required requirements res
resent reset resize resolve resolved resource resourcewarning responder response resprocessimage
ress rest restart restarted restarts restoration restore restored restorers result resume
retention retried retries retry retrying return returncode returned returns reusing reversed
revolution right rlimit rocm roles room root roots rotation round route routes routing row rows
rss rule rules run runner running runs runstoppederror runtime runtimeerror runtimewarning safe
safetensor safetensorerror safetensors sage said same sameasprimary sample sampler samplers
samples sampling sanitise sanitised save saved saves saw say says scalar scalars scale scaled scan
scanned scans schedule scheduler schedulers schema schemas scope screen script scripts scu scunet
sdapi sde sdnext sdp sdpa sdwatch sdwatchbroke sdwatcherror sdwebuiclient sdxl search sec second
seconds secret secrets section see seed seeds seems seen sees segfault segmentation select
selected self send sender sending sends sent sentence sentences sequence serialize served server
servers serves service services session set setattr sets setting settings settle settled settles
settling setup several sha sha256 shall shape shapes share shared shares she sheet short shortened
shorter shortform should show showing showmeminfo shown showproductname shows showuse shutdown
shutting sick side sig sigabrt sigbreak sighup sigint sigkill sigma sigmas sign signal signals
signature signatures signs sigsegv sigterm silence silent silently simple simulated simulator
since single site six size sizes skip skipped slashes slice slices sliding slow small smaller
smallest smi snapshot socket sockets some somebody something soon sooner sortable sorted source
sources space spaces span spandrel spans spared spawn spawned speak speaks spec spelt spent spin
split spoil spoils spool spoolerror square squeezed stable stack stage stagerunner stages stale
stall stamps stand stands starlette start started starting starts startup stat state statediagram
statedict states staticmethod status statuses stay stayed stays std stderr stdout stem step
stepless steps stepz still stood stop stopiteration stopped stopping stops storage store storm
story str stream streams strength string structure structured stuck style styles sub subfolder
subfolders submit submitted subpath subprocess subseed subseeds succeeded success successful such
sum super supervisor sur sure surrogatepass survive survives swap sweep swin swinir switch
switching symbolic symlinks sync synced syncthing syntax syntaxerror syntaxwarning sys sysctl
sysinfo system systemerror systemexit systems tab taberror table tag tags tail take taken takes
taking target task taskname tasks taste tcp tdrdelay tell telling tells temp temperature temporary
ten tensor tensors terminal terminals terminate terminated test tests text textinfo texts textual
than that thawed the their them themselves then there these they thing things this those though
thread threadpool threads three through thrown thumb thumbs tick ticks tiled time timed timeout
timeouterror timer times timings timm tiny title titles together token tokenizer tokens told too
took tool tools top torch torn total touch touched touches tqdm trace traceback tracebacks
transformers travel tree tried tries triggered triton troubles true truncate truncated truncating
truncation trusted truth try trying tuple turn turns twice two txt2img type typed typeerror types
uint8 ukl umask unable unavailable unchanged unconditional under understands undo undone une unet
unexpected unfinished unfit unhandled unicode unicodeerror unicodewarning uniform unipc unique
unknown unless unlike unload unloadable unmatched unpickling unpicklingerror unquoted unreachable
unreadable unrecognized unspecified until untrue unusable unwell upcast update updated upkeep
upper upscal upscale upscaler upscalers upscaling url urllib usable usage use used user username
users userwarning uses using usual utc utf utf8 utilization utils uvicorn vae vain valid
validation validationerror value valueerror values vanished vanishes vanishing var variants vars
venv verdict verifying version versions very via video visible visual volume vram wait waited
waiter waiting waits wake walk walked wall want wanted wants warn warning warnings was watch
watchdog watched watches watching way ways wear web webp websocket webui webuiapi webuibusyerror
webuierror webuiexit webuireplyerror webuis webuiservererror weight weights well went were what
whatever when whenever where wherever whether which whichever while who whoever whole whom whose
why width wildcard wildcards will win win32 win64 windll window windows winerror wins wish with
within without woken word words work worked worker workers working works world worn worst worth
would wouldblock wrap wrapped wrapper wraps writable write writes writing written wrong wrote x86
xet xformers xla xox xpu yaml yamlerror yes yet yml you your zero zip zombie zombies
"""

COMMON = frozenset(_WORDS.split())
"""In lower case, of three letters and more."""


def is_common(word: str) -> bool:
    """Return whether a word is too common, or has too few letters, to say anything of anybody."""
    word = word.casefold()
    letters = sum(c.isalpha() for c in word)
    if not word.isascii():
        return letters < 2
    return letters < 3 or word in COMMON
