// Makes a race of Fast DDS 3 visible: preloaded, it lets the thread that has just found a type unknown sleep for
// TYPE_LOOKUP_DELAY_US, as a busy machine's scheduler would. What it waits for can then come in between.
#include <cstdlib>
#include <dlfcn.h>
#include <unistd.h>

#define IS_KNOWN _ZN8eprosima7fastdds3dds6xtypes18TypeObjectRegistry24is_type_identifier_knownERKNS2_21TypeIdentfierWithSizeE
#define TEXT_OF(name) #name
#define TEXT(name) TEXT_OF(name)

extern "C" bool IS_KNOWN(void* registry, const void* identifier)
{
    using Original = bool (*)(void*, const void*);
    // Loaded for rclpy alone: RTLD_NEXT does not find it.
    static const auto original =
        reinterpret_cast<Original>(dlsym(dlopen(std::getenv("FAST_DDS_LIBRARY"), RTLD_LAZY | RTLD_NOLOAD), TEXT(IS_KNOWN)));
    static const auto delay_us = static_cast<useconds_t>(std::atoi(std::getenv("TYPE_LOOKUP_DELAY_US")));
    const bool known = original(registry, identifier);
    if (!known)
        usleep(delay_us);
    return known;
}
