#!/usr/bin/env perl
# One run of one row with Perl's EV::Nats. benchmark.py starts it, and explains rows and arguments.
#
#   perl ev_nats.pl ROW HOST PORT MESSAGES PAYLOAD WINDOW CHECKED [NUMBER]
use strict;
use warnings;
use EV;
use EV::Nats;
use Time::HiRes qw(clock_gettime CLOCK_MONOTONIC CLOCK_PROCESS_CPUTIME_ID);

my ($row, $host, $port, $count, $size, $window, $checked, $number) = @ARGV;
$number //= 1;
my $extra = '';
my ($subject, $in_check) = ('bench.subject', 0);
my $nats = EV::Nats->new(
    host       => $host,
    port       => $port,
    on_error   => \&fail,
    on_connect => sub { EV::break },
);
EV::run;

# Wait until the server has processed everything that was published.
sub flush {
    $nats->flush(sub { fail($_[0]) if $_[0]; EV::break });
    EV::run;
}

# Publish $count messages, then flush and wait for the server's confirmation.
sub pub {
    my ($count, $payload) = @_;
    $nats->publish($subject, $payload) for 1 .. $count;
    flush();
}

# Publish to a subscription of this connection; at most $window messages are on the way.
sub pubsub {
    my ($count, $payload, $window) = @_;
    my ($received, $sent, $mark) = (0, 0, 0);
    my $half = int($window / 2);
    my $send = sub {
        my ($portion) = @_;
        $portion = $count - $sent if $portion > $count - $sent;
        $nats->publish($subject, $payload) for 1 .. $portion;
        $sent += $portion;
        $mark = $sent == $count ? $count : $sent - $half;
    };
    my $sid = $nats->subscribe($subject, sub {
        if (++$received == $mark) {
            if   ($received == $count) { EV::break }
            else                       { $send->($half) }
        }
    });
    $send->($window);
    EV::run;
    $nats->unsubscribe($sid);
}

# Send requests to a responder on this connection, $window of them in flight.
sub request {
    my ($count, $payload, $window) = @_;
    my ($sent, $received) = (0, 0);
    my $sid = $nats->subscribe($subject, sub { $nats->publish($_[2], $_[1]) });
    my $answer;
    $answer = sub {
        fail($_[1]) if $_[1];
        $received++;
        if ($sent < $count) {
            $sent++;
            $nats->request($subject, $payload, $answer, 10_000);
        }
        elsif ($received == $count) { EV::break }
    };
    while ($sent < $window && $sent < $count) {
        $sent++;
        $nats->request($subject, $payload, $answer, 10_000);
    }
    EV::run;
    $nats->unsubscribe($sid);
    undef $answer;
}

# Receive $count messages that feeder.py, another process, publishes when asked.
sub sub_only {
    my ($count, $payload) = @_;
    my $received = 0;
    my $sid = $nats->subscribe($subject, sub { EV::break if ++$received == $count });
    $nats->publish('bench.feed', "$count " . length $payload);
    EV::run;
    $nats->unsubscribe($sid);
}

# Receive $count messages; $publish->($portion) publishes the next ones, $window are on the way.
sub windowed {
    my ($pattern, $count, $window, $publish) = @_;
    my ($received, $sent, $mark) = (0, 0, 0);
    my $half = int($window / 2);
    my $send = sub {
        my ($portion) = @_;
        $portion = $count - $sent if $portion > $count - $sent;
        $publish->($portion);
        $sent += $portion;
        $mark = $sent == $count ? $count : $sent - $half;
    };
    my $sid = $nats->subscribe($pattern, sub {
        if (++$received == $mark) {
            if   ($received == $count) { EV::break }
            else                       { $send->($half) }
        }
    });
    $send->($window);
    EV::run;
    $nats->unsubscribe($sid);
}

# Publish to $number subjects in turn; one subscription with a wildcard receives all.
sub subjects {
    my ($count, $payload, $window) = @_;
    my @names = map { "bench.many.$_" } 0 .. $number - 1;
    my $next = 0;
    windowed('bench.many.*', $count, $window, sub {
        for (1 .. $_[0]) {
            $nats->publish($names[$next], $payload);
            $next = 0 if ++$next == $number;
        }
    });
}

# The block of $number headers that all clients send.
sub block {
    return join "\r\n", 'NATS/1.0', (map { "X-Header-$_: value-$_" } 0 .. $number - 1), '', '';
}

# Publish with a raw block of $number headers; the callback gets the raw block.
sub raw_headers {
    my ($count, $payload, $window) = @_;
    my $block = block();
    windowed($subject, $count, $window, sub {
        $nats->hpublish($subject, $block, $payload) for 1 .. $_[0];
    });
}

# Send one request after the other; note the time that each one took.
sub serial {
    my ($count, $payload) = @_;
    my (@took, $begun, $answer);
    my $sid = $nats->subscribe($subject, sub { $nats->publish($_[2], $_[1]) });
    my $ask = sub {
        $begun = clock_gettime(CLOCK_MONOTONIC);
        $nats->request($subject, $payload, $answer, 10_000);
    };
    $answer = sub {
        push @took, clock_gettime(CLOCK_MONOTONIC) - $begun;
        fail($_[1]) if $_[1];
        if (@took < $count) { $ask->() }
        else                { EV::break }
    };
    $ask->();
    EV::run;
    $nats->unsubscribe($sid);
    undef $answer;
    @took = sort { $a <=> $b } @took;
    $extra = sprintf ', "p50": %.0f, "p99": %.0f', map { $took[int @took * $_ / 100] * 1e9 } 50, 99;
}

# The resident memory in bytes; 0 where /proc is missing.
sub resident {
    open my $file, '<', '/proc/self/statm' or return 0;
    return (split ' ', <$file>)[1] * 4096;
}

# Subscribe to $count subjects; the server has confirmed all of them.
sub subscriptions {
    my ($count) = @_;
    my $before = resident();
    $nats->subscribe("bench.sub.$_", sub { }) for 1 .. $count;
    flush();
    $extra = sprintf ', "bytes": %d', resident() - $before;
}

# Open $count connections at once; all handshakes are over.
my @others;
sub connections {
    my ($count) = @_;
    my ($before, $open) = (resident(), 0);
    @others = map {
        EV::Nats->new(
            host       => $host,
            port       => $port,
            on_error   => \&fail,
            on_connect => sub { EV::break if ++$open == $count },
        )
    } 1 .. $count;
    EV::run;
    $extra = sprintf ', "bytes": %d', resident() - $before;
}

# Publish @payloads the way that the row does; return how many came back wrong.
sub check_messages {
    my @payloads = @_;
    my (@got, @expected);
    my $headers = $row =~ /headers/ ? block() : '';
    my $pattern = $row eq 'subjects' ? 'bench.many.*' : $subject;
    my $sid = $nats->subscribe($pattern, sub { push @got, join '|', map { $_ // '' } @_[0 .. 3] });
    for my $i (0 .. $#payloads) {
        my $name = $row eq 'subjects' ? 'bench.many.' . $i % $number : $subject;
        if ($headers) { $nats->hpublish($name, $headers, $payloads[$i]) }
        else          { $nats->publish($name, $payloads[$i]) }
        push @expected, "$name|$payloads[$i]||$headers";
    }
    flush();
    $nats->unsubscribe($sid);
    return differences(\@got, \@expected);
}

# Send each payload as a request to an echo; return how many answers were wrong.
sub check_requests {
    my @payloads = @_;
    my @got;
    $in_check = 1;
    my $sid = $nats->subscribe($subject, sub { $nats->publish($_[2], $_[1]) });
    for my $payload (@payloads) {
        $nats->request($subject, $payload, sub { push @got, $_[0] // "failed: $_[1]" }, 2_000);
    }
    EV::run(EV::RUN_ONCE) while @got < @payloads;
    return differences(\@got, \@payloads);
}

# Return in how many places the two lists differ.
sub differences {
    my ($got, $expected) = @_;
    my $wrong = abs(@$got - @$expected);
    for my $i (0 .. $#$expected) {
        $wrong++ if $i < @$got && $got->[$i] ne $expected->[$i];
    }
    return $wrong;
}

# Report an error and exit. In the check of the answers a lost connection counts as wrong answers instead.
sub fail {
    return if $in_check;
    print STDERR "EV::Nats: $_[0]\n";
    exit 1;
}

my $run = {
    pub           => \&pub,
    pubsub        => \&pubsub,
    request       => \&request,
    sub           => \&sub_only,
    subjects      => \&subjects,
    raw_headers   => \&raw_headers,
    headers       => \&raw_headers,    # it gives and takes raw blocks only
    serial        => \&serial,
    subscriptions => \&subscriptions,
    connections   => \&connections,
}->{$row} or exit 64;
my $payload = 'x' x $size;
my $warm    = int($count / 10) || 1;
$run->($warm, $payload, $window) unless $row =~ /^(subscriptions|connections)$/;
my ($cpu, $start) = (clock_gettime(CLOCK_PROCESS_CPUTIME_ID), clock_gettime(CLOCK_MONOTONIC));
$run->($count, $payload, $window);
my $elapsed = clock_gettime(CLOCK_MONOTONIC) - $start;
$cpu = clock_gettime(CLOCK_PROCESS_CPUTIME_ID) - $cpu;
my @numbered = map { substr sprintf('%0*d', $size, $_), -$size } 0 .. $checked - 1;
my $wrong = $row =~ /^(request|serial)$/ ? check_requests(@numbered) : check_messages(@numbered);
printf qq({"ns": %.0f, "cpu_ns": %.0f, "wrong": %d$extra}\n), $elapsed * 1e9, $cpu * 1e9, $wrong;
