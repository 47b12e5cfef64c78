/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>

#include "face.h"

/*
 * org.freedesktop.LogControl1. Writing is for the service's own user and root: sd-bus asks the kernel's word for the
 * caller, because the properties are not marked unprivileged.
 */

static int get_level(sd_bus *bus, const char *path, const char *interface, const char *property,
		     sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
	return sd_bus_message_append(reply, "s", log_get_level_name());
}

static int set_level(sd_bus *bus, const char *path, const char *interface, const char *property,
		     sd_bus_message *value, void *userdata, sd_bus_error *error)
{
	const char *s;
	int r = sd_bus_message_read(value, "s", &s);

	if (r < 0)
		return r;
	if (log_set_level_name(s) < 0)
		return sd_bus_error_setf(error, vireo_error_name(VIREO_INVALID_ARGS),
			"there is no log level “%s”; there are: emerg, alert, crit, err, warning, notice, info, debug", s);
	log_info("log level is %s now", s);
	return 0;
}

static int get_target(sd_bus *bus, const char *path, const char *interface, const char *property,
		      sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
	return sd_bus_message_append(reply, "s", log_get_target_name());
}

static int set_target(sd_bus *bus, const char *path, const char *interface, const char *property,
		      sd_bus_message *value, void *userdata, sd_bus_error *error)
{
	const char *s;
	int r = sd_bus_message_read(value, "s", &s);

	if (r < 0)
		return r;
	if (log_set_target_name(s) < 0)
		return sd_bus_error_setf(error, vireo_error_name(VIREO_INVALID_ARGS),
			"there is no log target “%s”; there are: auto, console, journal, syslog, null", s);
	return 0;
}

static int get_identifier(sd_bus *bus, const char *path, const char *interface, const char *property,
			  sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
	return sd_bus_message_append(reply, "s", "vireod");
}

const sd_bus_vtable log_control_vtable[] = {
	SD_BUS_VTABLE_START(0),
	SD_BUS_WRITABLE_PROPERTY("LogLevel", "s", get_level, set_level, 0, 0),
	SD_BUS_WRITABLE_PROPERTY("LogTarget", "s", get_target, set_target, 0, 0),
	SD_BUS_PROPERTY("SyslogIdentifier", "s", get_identifier, 0, SD_BUS_VTABLE_PROPERTY_CONST),
	SD_BUS_VTABLE_END,
};
