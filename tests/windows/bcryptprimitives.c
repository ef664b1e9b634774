/* A stand-in for Windows' bcryptprimitives.dll, which wine 8 does not have. The Rust standard library
 * (and so pydantic-core) asks it for one function: fill a buffer with random bytes. advapi32, which wine
 * has, offers the same as RtlGenRandom, whose exported name is SystemFunction036. */
#include <windows.h>

BOOLEAN NTAPI SystemFunction036(PVOID buffer, ULONG length);

__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE buffer, SIZE_T length)
{
    const SIZE_T most = 1u << 20;
    SIZE_T done = 0;
    while (done < length) {
        SIZE_T part = length - done < most ? length - done : most;
        if (!SystemFunction036(buffer + done, (ULONG)part))
            return FALSE;
        done += part;
    }
    return TRUE;
}
