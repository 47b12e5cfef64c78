/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * List, follow, resume: does the client's view become the truth?
 *
 * One broker with two objects, one client, and between them the bus: a FIFO in which the broker's replies and signals
 * keep their order. The broker may hold back up to DROPS signals (P16), crash with its store intact (RESTARTS, same epoch)
 * or lose it (LOSSES, a new epoch); its history keeps the last WINDOW events. The client follows doc/following.md.
 * The claim: when nothing moves any more, what the client holds is what the broker holds.
 *
 * The switches take one rule away each. run.py checks that the claim then fails: a check that cannot fail proves nothing.
 */
#ifndef VERSIONS  /* the client compares versions: gaps, and the bookmark */
#define VERSIONS 1
#endif
#ifndef SUBSCRIBE_FIRST /* it subscribes before it takes the snapshot */
#define SUBSCRIBE_FIRST 1
#endif
#ifndef EPOCH     /* the broker compares the epoch when a client resumes */
#define EPOCH 1
#endif
#ifndef OLDEST    /* the broker refuses a cursor that history no longer reaches */
#define OLDEST 1
#endif
#ifndef GAPS      /* the client does not believe that it is complete up to a version merely because it heard that one */
#define GAPS 1
#endif
#ifndef FILTERED  /* the client hears one of the two objects only */
#define FILTERED 0
#endif
#ifndef STREAM    /* the client pulls by GetEvents (or a stream, which is the same) and ignores signals */
#define STREAM 0
#endif
#ifndef DROPS
#define DROPS 1
#endif
#ifndef RESTARTS
#define RESTARTS 1
#endif
#ifndef LOSSES
#define LOSSES 1
#endif
#ifndef CHANGES
#define CHANGES 3
#endif
#ifndef WINDOW
#define WINDOW 2
#endif
#define VERSIONS_MAX (CHANGES + RESTARTS * 2 + 2)

mtype = { EVENT, BOOKMARK, OWNER, SNAPSHOT_REPLY, EVENT_REPLY, EVENTS_END, REFUSED };
mtype = { MATCH, GET_SNAPSHOT, GET_EVENTS };

chan to_client = [14] of { mtype, byte, byte, byte, byte, byte, byte };
chan to_broker = [2] of { mtype, byte, byte };

/* ---- truth ---- */
byte version = 0, epoch = 1, oldest = 1;
byte value[2], at[2];			  /* of each object: content, Version */
byte log_object[VERSIONS_MAX], log_value[VERSIONS_MAX], log_previous[VERSIONS_MAX];
bool log_kept[VERSIONS_MAX];		  /* false: a version that a crash skipped */
bool subscribed = false, mark = false;
byte changes = 0, held = 0, restarts = 0, losses = 0;

/* ---- the client's view ---- */
byte my_epoch = 0, my_version = 0;	  /* complete up to here */
byte my_value[2], my_at[2];
bool busy = false;			  /* a call is on its way: what comes before its reply is in the reply */

#define HEARS(o) (!FILTERED || (o) == 0)

inline change(o)
{
	version++;
	changes++;
	log_object[version] = o;
	log_previous[version] = at[o];
	value[o] = changes;
	log_value[version] = value[o];
	log_kept[version] = true;
	at[o] = version;
	mark = true;
	if
	:: version >= WINDOW && oldest < version - WINDOW + 1 -> oldest = version - WINDOW + 1
	:: else
	fi
}

/* Calls on their way get an error, and the client learns of a new owner; a match is the bus's and stays. */
inline lose_calls()
{
	do
	:: to_broker?MATCH, _, _ -> subscribed = true
	:: to_broker?GET_SNAPSHOT, _, _
	:: to_broker?GET_EVENTS, _, _
	:: empty(to_broker) -> break
	od
}

proctype Broker()
{
	byte e, after, o, i;

	do
	/* something happens at a hypervisor */
	:: atomic { changes < CHANGES && len(to_client) < 4 ->
		if :: o = 0 :: o = 1 fi;
		change(o);
		if
		:: !subscribed || !HEARS(o) -> skip
		:: subscribed && HEARS(o) && held < DROPS -> held++		/* held back */
		:: subscribed && HEARS(o) -> to_client!EVENT, o, value[o], version, log_previous[version], 0, 0
		fi;
		o = 0 }
	/* the burst is over */
	:: atomic { mark && len(to_client) < 4 ->
		mark = false;
		if :: subscribed -> to_client!BOOKMARK, version, 0, 0, 0, 0, 0 :: else fi }
	/* kill -9: the store keeps epoch and history, versions go on above those reserved; matches are the bus's, they stay */
	:: atomic { restarts < RESTARTS && len(to_client) < 4 ->
		restarts++;
		version++;		/* skipped: reserved, perhaps used */
		log_kept[version] = false;
		if
		:: version >= WINDOW && oldest < version - WINDOW + 1 -> oldest = version - WINDOW + 1
		:: else
		fi;
		mark = false;
		lose_calls();
		to_client!OWNER, 0, 0, 0, 0, 0, 0 }
	/* the store is lost: a new epoch, whose versions begin anew; what was known of objects is listed anew */
	:: atomic { losses < LOSSES && len(to_client) < 4 ->
		losses++;
		epoch++;
		version = 0; oldest = 1;
		at[0] = 0; at[1] = 0;
		version++; at[0] = version; log_object[version] = 0; log_value[version] = value[0]; log_previous[version] = 0; log_kept[version] = true;
		mark = false;
		lose_calls();
		to_client!OWNER, 0, 0, 0, 0, 0, 0 }
	/* calls */
	:: atomic { to_broker?MATCH, _, _ -> subscribed = true }
	:: atomic { to_broker?GET_SNAPSHOT, _, _ ->
		to_client!SNAPSHOT_REPLY, epoch, version, value[0], at[0], value[1], at[1] }
	:: atomic { to_broker?GET_EVENTS, e, after ->
		if
		:: (EPOCH && e != epoch) || after > version || (OLDEST && after + 1 < oldest) ->
			to_client!REFUSED, 0, 0, 0, 0, 0, 0
		:: else ->
			i = (after + 1 < oldest -> oldest : after + 1);
			do
			:: i <= version ->
				if
				:: log_kept[i] && HEARS(log_object[i]) ->
					to_client!EVENT_REPLY, log_object[i], log_value[i], i, 0, 0, 0
				:: else
				fi;
				i++
			:: else -> break
			od;
			to_client!EVENTS_END, version, 0, 0, 0, 0, 0
		fi;
		i = 0; e = 0; after = 0 }
	od
}

inline call(what)
{
	busy = true;
	to_broker!what, my_epoch, my_version
}

proctype Client()
{
	mtype k;
	byte a, b, c, d, e, f;
	bool unsubscribed = false;

	atomic {
		if
		:: STREAM || SUBSCRIBE_FIRST -> to_broker!MATCH, 0, 0
		:: else -> unsubscribed = true
		fi;
		call(GET_SNAPSHOT)
	}
	do
	:: atomic { to_client?k, a, b, c, d, e, f ->
		if
		:: k == SNAPSHOT_REPLY ->
			my_epoch = a; my_version = b;
			my_value[0] = c; my_at[0] = d; my_value[1] = e; my_at[1] = f;
			busy = false;
			if :: unsubscribed -> unsubscribed = false; to_broker!MATCH, 0, 0 :: else fi
		:: k == EVENT && !busy && !STREAM ->
			if
			:: VERSIONS && c <= my_version -> skip			/* known from the snapshot already */
			:: VERSIONS && d != my_at[a] -> call(GET_EVENTS)	/* something before it was missed */
			:: VERSIONS && GAPS && !FILTERED && c != my_version + 1 -> call(GET_EVENTS)
			:: else ->
				my_value[a] = b; my_at[a] = c;
				/* Who hears only some objects can't tell a gap from what it does not hear: complete up to here
				 * is what GetEvents or the snapshot said, not what was heard. */
				if :: FILTERED && VERSIONS && GAPS -> skip :: else -> my_version = c fi
			fi
		:: k == BOOKMARK && !busy ->
			if
			:: VERSIONS && a > my_version -> call(GET_EVENTS)
			:: else
			fi
		:: k == EVENT_REPLY -> my_value[a] = b; my_at[a] = c
		:: k == EVENTS_END -> my_version = a; busy = false
		:: k == REFUSED -> call(GET_SNAPSHOT)
		/* another owner of the name: go on where we were, and be told if that cannot be */
		:: k == OWNER ->
			if
			:: my_epoch == 0 -> call(GET_SNAPSHOT)
			:: else -> call(GET_EVENTS)
			fi
		:: else
		fi;
		k = 0; a = 0; b = 0; c = 0; d = 0; e = 0; f = 0 }
	od
}

init {
	atomic { run Broker(); run Client() }
	/* Nobody can move any more. */
	timeout;
	assert(!busy);
	assert(my_epoch == epoch);
	assert(my_value[0] == value[0]);
	assert(FILTERED || my_value[1] == value[1]);
}
