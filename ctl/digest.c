/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <string.h>

#include "follow.h"
#include "show.h"

int verb_digest(struct ctl *c, const struct verb *v, char **args, int n)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL, *reply = NULL;
	struct follower f = {.c = c};
	const char *hash;
	uint64_t version;
	int r;

	r = follower_filter(&f);
	if (r == EXIT_OK)
		r = check_connection(c);
	if (r == EXIT_OK)
		r = client_new_call(c, &m, VIREO_ROOT, VIREO_MANAGER, "Digest");
	if (r != EXIT_OK)
		return r;
	r = sd_bus_message_open_container(m, 'a', "{sv}");
	if (r >= 0)
		r = append_filter(c, m, f.kinds);
	if (r >= 0)
		r = sd_bus_message_close_container(m);
	if (r < 0)
		return client_failed(c, "cannot ask for the digest", NULL, r);
	r = client_send(c, m, "cannot ask for the digest", &reply);
	if (r != EXIT_OK)
		return r;
	r = sd_bus_message_read(reply, "ts", &version, &hash);
	if (r < 0)
		return client_failed(c, "cannot read the digest", NULL, r);
	if (c->json != JSON_OFF) {
		_cleanup_(json_putp) json_object *o = json_object_new_object();

		if (!o)
			return out_of_memory();
		json_object_object_add(o, "Version", json_object_new_uint64(version));
		json_object_object_add(o, "sha256", json_object_new_string(hash));
		return json_print(c, o);
	}
	printf("%s  version %lu\n", hash, (unsigned long)version);
	return EXIT_OK;
}
