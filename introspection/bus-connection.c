/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "face.h"

#define DEFINE(name, what)                                                                                   \
	SD_BUS_METHOD_WITH_ARGS(name, SD_BUS_ARGS("s", xml, "a{sv}", options),                               \
		SD_BUS_RESULT("o", what, "t", version), method_change, SD_BUS_VTABLE_UNPRIVILEGED)
#define CREATE(name, from, what)                                                                             \
	SD_BUS_METHOD_WITH_ARGS(name, SD_BUS_ARGS("s", from, "a{sv}", options),                              \
		SD_BUS_RESULT("o", what, "o", job, "t", version), method_change, SD_BUS_VTABLE_UNPRIVILEGED)

const sd_bus_vtable connection_vtable[] = {
	SD_BUS_VTABLE_START(0),
	PROPERTY_CONST("URI", "s"),
	PROPERTY_CONST("Driver", "s"),
	PROPERTY("State", "s"),
	PROPERTY("Hostname", "s"),
	PROPERTY("HypervisorVersion", "s"),
	PROPERTY("SupportedEvents", "as"),
	PROPERTY("SupportedOperations", "as"),
	PROPERTY("SameAs", "ao"),
	PROPERTY("Error", "s"),
	PROPERTY("Version", "t"),

	DEFINE("DefineDomain", domain),
	CREATE("CreateDomain", xml, domain),
	CREATE("RestoreDomain", file, domain),
	DEFINE("DefinePool", pool),
	CREATE("CreatePool", xml, pool),
	DEFINE("DefineNetwork", network),
	CREATE("CreateNetwork", xml, network),
	SD_BUS_METHOD_WITH_ARGS("Resync", SD_BUS_ARGS("a{sv}", options), SD_BUS_RESULT("t", version), method_resync,
		SD_BUS_VTABLE_UNPRIVILEGED),

	EVENT_SIGNAL("Added"),
	EVENT_SIGNAL("Connected"),
	EVENT_SIGNAL("Disconnected"),
	EVENT_SIGNAL("Synced"),
	EVENT_SIGNAL("Updated"),
	EVENT_SIGNAL("Removed"),
	SD_BUS_VTABLE_END,
};
