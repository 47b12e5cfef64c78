/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "face.h"

const sd_bus_vtable network_vtable[] = {
	SD_BUS_VTABLE_START(0),
	PROPERTY("Name", "s"),
	PROPERTY_CONST("UUID", "s"),
	PROPERTY("Type", "s"),
	PROPERTY_CONST("Connection", "o"),
	PROPERTY("State", "s"),
	PROPERTY("Active", "b"),
	PROPERTY("Persistent", "b"),
	PROPERTY("Autostart", "b"),
	PROPERTY("Bridge", "s"),
	PROPERTY("Jobs", "ao"),
	PROPERTY_CONST("Incarnation", "t"),
	PROPERTY("Version", "t"),

	CHANGE("Start"),
	CHANGE("Stop"),
	CHANGE("Undefine"),
	CHANGE_WITH("SetAutostart", "b", autostart),
	SD_BUS_METHOD_WITH_ARGS("GetXML", SD_BUS_ARGS("a{sv}", options), SD_BUS_RESULT("t", version, "s", xml),
		method_get_xml, SD_BUS_VTABLE_UNPRIVILEGED),

	EVENT_SIGNAL("Added"),
	EVENT_SIGNAL("Defined"),
	EVENT_SIGNAL("Started"),
	EVENT_SIGNAL("Stopped"),
	EVENT_SIGNAL("Undefined"),
	EVENT_SIGNAL("Removed"),
	EVENT_SIGNAL("Updated"),
	SD_BUS_VTABLE_END,
};
