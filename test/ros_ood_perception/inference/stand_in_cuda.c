/* A stand-in for the NVIDIA driver's library: memory of the host, one stream that runs at once, graphs that call back.
   It refuses what the driver refuses: calls in a thread without a context, and memory that it did not give out. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { OK = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NO_DEVICE = 100, INVALID_CONTEXT = 201, CAPTURE_INVALIDATED = 901 };

static int devices = 1, live, capturing, uncapturable, retained;
static long captured, launched;
static char failing[64];
static __thread void *current;
static void (*launch)(long);

void stand_in_reset(int count) { devices = count; live = capturing = uncapturable = 0; failing[0] = 0; launched = 0; }
void stand_in_fail(const char *name) { strncpy(failing, name, sizeof failing - 1); }
void stand_in_refuse_capture(int refuse) { uncapturable = refuse; }
void stand_in_on_launch(void (*function)(long)) { launch = function; }
int stand_in_live(void) { return live + retained; }
int stand_in_capturing(void) { return capturing; }
long stand_in_captured(void) { return captured + 1; }
long stand_in_launched(void) { return launched; }

#define CHECK if (!strcmp(failing, __func__)) return OUT_OF_MEMORY
#define CONTEXT CHECK; if (!current) return INVALID_CONTEXT

int cuInit(unsigned flags) { CHECK; return devices < 0 ? NO_DEVICE : OK; }
int cuGetErrorString(int error, const char **text) {
  *text = error == OUT_OF_MEMORY ? "out of memory" : error == INVALID_CONTEXT ? "invalid device context" :
          error == NO_DEVICE ? "no CUDA-capable device is detected" : "unspecified";
  return OK;
}
int cuDriverGetVersion(int *version) { *version = 12060; return OK; }
int cuDeviceGetCount(int *count) { CHECK; *count = devices; return OK; }
int cuDeviceGet(int *device, int index) { CHECK; *device = 7; return index < devices ? OK : INVALID_VALUE; }
int cuDeviceGetName(char *name, int size, int device) { strncpy(name, "Stand-in GPU", size); return device == 7 ? OK : 1; }
int cuDeviceGetAttribute(int *value, int attribute, int device) { *value = attribute == 75 ? 8 : 7; return OK; }
int cuDeviceTotalMem_v2(size_t *bytes, int device) { *bytes = (size_t)16 << 30; return OK; }
int cuDevicePrimaryCtxRetain(void **context, int device) { CHECK; *context = &devices; retained++; return OK; }
int cuDevicePrimaryCtxRelease_v2(int device) { retained--; return OK; }
int cuCtxSetCurrent(void *context) { CHECK; current = context; return OK; }
int cuMemAlloc_v2(unsigned long long *address, size_t size) {
  CONTEXT; *address = (unsigned long long)(size_t)malloc(size); live++; return OK;
}
int cuMemFree_v2(unsigned long long address) { CONTEXT; free((void *)(size_t)address); live--; return OK; }
int cuMemHostAlloc(void **address, size_t size, unsigned flags) { CONTEXT; *address = malloc(size); live++; return OK; }
int cuMemFreeHost(void *address) { CONTEXT; free(address); live--; return OK; }
int cuMemcpyHtoDAsync_v2(unsigned long long device, const void *host, size_t size, void *stream) {
  CONTEXT; memcpy((void *)(size_t)device, host, size); return stream ? OK : INVALID_VALUE;
}
int cuMemcpyDtoHAsync_v2(void *host, unsigned long long device, size_t size, void *stream) {
  CONTEXT; memcpy(host, (void *)(size_t)device, size); return stream ? OK : INVALID_VALUE;
}
int cuStreamCreate(void **stream, unsigned flags) { CONTEXT; *stream = malloc(1); live++; return flags == 1 ? OK : 1; }
int cuStreamDestroy_v2(void *stream) { CONTEXT; free(stream); live--; return OK; }
int cuStreamSynchronize(void *stream) { CONTEXT; return capturing ? CAPTURE_INVALIDATED : OK; }
int cuStreamBeginCapture_v2(void *stream, int mode) { CONTEXT; capturing = 1; return OK; }
int cuStreamEndCapture(void *stream, void **graph) {
  CONTEXT; capturing = 0; *graph = 0;
  if (uncapturable) return CAPTURE_INVALIDATED;
  *graph = malloc(1); live++; return OK;
}
int cuGraphInstantiateWithFlags(void **executable, void *graph, unsigned long long flags) {
  CONTEXT; *executable = (void *)++captured; live++; return OK;
}
int cuGraphLaunch(void *executable, void *stream) { CONTEXT; launched++; launch((long)executable); return OK; }
int cuGraphExecDestroy(void *executable) { CONTEXT; live--; return OK; }
int cuGraphDestroy(void *graph) { CONTEXT; free(graph); live--; return OK; }
int cuEventCreate(void **event, unsigned flags) { CONTEXT; *event = calloc(1, sizeof(struct timespec)); live++; return OK; }
int cuEventRecord(void *event, void *stream) { CONTEXT; clock_gettime(CLOCK_MONOTONIC, event); return OK; }
int cuEventSynchronize(void *event) { CONTEXT; return OK; }
int cuEventElapsedTime(float *milliseconds, void *first, void *second) {
  struct timespec *a = first, *b = second;
  *milliseconds = (b->tv_sec - a->tv_sec) * 1e3 + (b->tv_nsec - a->tv_nsec) * 1e-6;
  return OK;
}
int cuEventDestroy_v2(void *event) { CONTEXT; free(event); live--; return OK; }
